// SPDX-License-Identifier: Apache-2.0
// Damaged files: the reader answers each with an error or facts, never with a signal.
#include "expect_error.h"
#include "fixture_package.h"

#include "kernelhub/loader/preflight.h"

#include <gtest/gtest.h>

#include <cstring>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <random>
#include <sys/mman.h>
#include <unistd.h>

namespace kernelhub::loader {
namespace {

/// A library's bytes to damage, and the descriptor of a file that holds them.
class ElfBytes {
 public:
  explicit ElfBytes(const std::string& name) {
    std::ifstream file(fixture(name), std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }
  std::size_t size() const { return bytes_.size(); }
  char& operator[](std::size_t at) { return bytes_[at]; }
  Elf64_Ehdr& header() { return *reinterpret_cast<Elf64_Ehdr*>(bytes_.data()); }
  Elf64_Phdr* segment(std::uint32_t type) {
    auto* first = reinterpret_cast<Elf64_Phdr*>(bytes_.data() + header().e_phoff);
    for (int i = 0; i < header().e_phnum; ++i) {
      if (first[i].p_type == type) return first + i;
    }
    return nullptr;
  }
  /// The first entry of PT_DYNAMIC with this tag.
  Elf64_Dyn* dynamic(std::int64_t tag) {
    const Elf64_Phdr* segment = this->segment(PT_DYNAMIC);
    auto* entry = reinterpret_cast<Elf64_Dyn*>(bytes_.data() + segment->p_offset);
    for (; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == tag) return entry;
    }
    return nullptr;
  }
  void truncate(std::size_t size) { bytes_.resize(size); }
  std::string& bytes() { return bytes_; }

  UniqueFd file() const {
    UniqueFd fd(memfd_create("elf", MFD_CLOEXEC));
    EXPECT_EQ(::write(fd.get(), bytes_.data(), bytes_.size()), static_cast<ssize_t>(bytes_.size()));
    return fd;
  }
  std::optional<ErrorCode> code() const {
    const UniqueFd fd = file();
    return code_of([&] { require_preflight(fd.get(), "damaged.so", {}); });
  }

 private:
  std::string bytes_;
};

ElfBytes bytes_of(const std::string& content) {
  ElfBytes bytes("_plain_1");
  bytes.bytes() = content;
  return bytes;
}

TEST(ElfCorpus, NamesWhatIsNotElf) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "an empty file"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git-lfs pointer"},
      {"<!DOCTYPE html><html></html>", "a HTML page"},
      {std::string("\x1f\x8b\x08", 3), "a gzip archive"},
      {std::string("PK\x03\x04", 4), "a zip archive"},
      {"hello\n", "text"},
      {std::string(64, '\0'), "other binary data"}};
  for (const auto& [content, expected] : cases) {
    const UniqueFd fd = bytes_of(content).file();
    const Error error = error_of([&] { read_elf(fd.get(), "x.so"); });
    EXPECT_EQ(error.code(), ErrorCode::kNotElf);
    EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
  }
}

TEST(ElfCorpus, RefusesOtherClassesAndTypes) {
  ElfBytes small("_plain_1");
  small.header().e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(small.code(), ErrorCode::kWrongElfClass);
  ElfBytes big("_plain_1");
  big.header().e_ident[EI_DATA] = ELFDATA2MSB;
  EXPECT_EQ(big.code(), ErrorCode::kWrongElfClass);
  ElfBytes executable("_plain_1");
  executable.header().e_type = ET_EXEC;
  EXPECT_EQ(executable.code(), ErrorCode::kNotSharedLibrary);
  const UniqueFd program = open_file("/proc/self/exe");
  EXPECT_EQ(code_of([&] { read_elf(program.get(), "exe"); }), ErrorCode::kNotSharedLibrary);
}

TEST(ElfCorpus, RefusesAnotherMachine) {
  ElfBytes bytes("_plain_1");
  bytes.header().e_machine = bytes.header().e_machine == EM_AARCH64 ? EM_X86_64 : EM_AARCH64;
  EXPECT_EQ(bytes.code(), ErrorCode::kWrongArchitecture);
}

TEST(ElfCorpus, RefusesUnsafeEntries) {
  for (const std::int64_t tag :
       {std::int64_t{DT_AUDIT}, std::int64_t{DT_DEPAUDIT}, std::int64_t{DT_FILTER},
        std::int64_t{DT_AUXILIARY}, std::int64_t{DT_PREINIT_ARRAY}, std::int64_t{DT_TEXTREL}}) {
    ElfBytes bytes("_plain_1");
    bytes.dynamic(DT_RELACOUNT)->d_tag = tag;
    EXPECT_EQ(bytes.code(), ErrorCode::kUnsafeElf) << tag;
  }
}

TEST(ElfCorpus, RefusesMemoryThatIsWritableAndExecutable) {
  ElfBytes bytes("_plain_1");
  bytes.segment(PT_LOAD)->p_flags = PF_R | PF_W | PF_X;
  EXPECT_EQ(bytes.code(), ErrorCode::kUnsafeElf);
  ElfBytes unmarked("_plain_1");  // without the mark the dynamic linker makes the stack executable
  unmarked.segment(PT_GNU_STACK)->p_type = PT_NULL;
  EXPECT_EQ(unmarked.code(), ErrorCode::kUnsafeElf);
}

TEST(ElfCorpus, RefusesAnEmptiedDynamicSection) {
  ElfBytes bytes("_plain_1");
  const Elf64_Phdr* segment = bytes.segment(PT_DYNAMIC);
  std::memset(&bytes[segment->p_offset], 0, segment->p_filesz);
  EXPECT_EQ(bytes.code(), ErrorCode::kTruncatedElf);
}

TEST(ElfCorpus, FindsASystemLibraryThatIsTooOld) {
  const auto patched = [](const std::string& name, std::string from, const std::string& to) {
    ElfBytes bytes(name);
    const std::size_t at = bytes.bytes().find(from + '\0');
    EXPECT_NE(at, std::string::npos) << from;
    bytes.bytes().replace(at, to.size(), to);
    return bytes.code();
  };
  EXPECT_EQ(patched("_typed_cpu_1", "GLIBC_2.2.5", "GLIBC_9.9.9"), ErrorCode::kGlibcTooOld);
  EXPECT_EQ(patched("_typed_cpu_1", "GLIBCXX_3.4.21", "GLIBCXX_3.4.99"),
            ErrorCode::kLibstdcxxTooOld);
}

TEST(ElfCorpus, AnswersEveryTruncationWithAnError) {
  constexpr std::size_t kCuts = 64;
  const ElfBytes whole("_typed_cpu_1");
  for (std::size_t cut = 0; cut < kCuts; ++cut) {
    ElfBytes bytes("_typed_cpu_1");
    // Section headers end the file and nobody reads them; cut within what the segments cover.
    const Elf64_Phdr* dynamic = bytes.segment(PT_DYNAMIC);
    const std::size_t last = dynamic->p_offset + dynamic->p_filesz;
    bytes.truncate(last * cut / kCuts);
    const std::optional<ErrorCode> code = bytes.code();
    EXPECT_TRUE(code == ErrorCode::kTruncatedElf || (cut == 0 && code == ErrorCode::kNotElf))
        << "cut at " << last * cut / kCuts;
  }
}

TEST(ElfCorpus, SurvivesManyMutations) {
  constexpr int kMutants = 20'000;
  std::mt19937 random(20260501);
  const ElfBytes original("_typed_cpu_1");
  ElfBytes bytes("_typed_cpu_1");
  const Elf64_Phdr dynamic = *bytes.segment(PT_DYNAMIC);
  // Headers, and everything that the dynamic section points to.
  const std::size_t tables = 0x1800;
  const UniqueFd fd = original.file();
  int refused = 0;
  for (int mutant = 0; mutant < kMutants; ++mutant) {
    std::vector<std::size_t> places;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) {
      const std::size_t at = random() % 3 == 0 ? dynamic.p_offset + random() % dynamic.p_filesz
                                               : random() % std::min(tables, original.size());
      const char byte = random() % 4 == 0 ? '\xff' : static_cast<char>(random());
      ASSERT_EQ(pwrite(fd.get(), &byte, 1, static_cast<off_t>(at)), 1);
      places.push_back(at);
    }
    try {
      PreflightOptions file_only;
      file_only.resolve_against_process = false;
      refused += preflight(fd.get(), "mutant.so", file_only).ok() ? 0 : 1;
    } catch (const Error& error) {
      EXPECT_GE(static_cast<int>(error.code()), 400) << error.what();
      EXPECT_LE(static_cast<int>(error.code()), 404) << error.what();
      ++refused;
    }
    for (const std::size_t at : places) {
      ASSERT_EQ(pwrite(fd.get(), &bytes[at], 1, static_cast<off_t>(at)), 1);
    }
  }
  EXPECT_GT(refused, kMutants / 10);
  EXPECT_LT(refused, kMutants);
}

}  // namespace
}  // namespace kernelhub::loader

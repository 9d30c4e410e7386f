// SPDX-License-Identifier: Apache-2.0
#include "elf_image.h"

#include "loader_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace kernelhub::loader {
namespace {

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
  });
}

/// What a file that is no ELF file looks like, from its first bytes.
std::string_view look_at(std::string_view head) {
  if (head.empty()) return "an empty file";
  if (starts_with_any(head, {"version https://git-lfs"})) return "a git-lfs pointer";
  if (starts_with_any(head, {"<!DOCTYPE", "<!doctype", "<html", "<HTML"})) return "a HTML page";
  if (starts_with_any(head, {"\x1f\x8b"})) return "a gzip archive";
  if (starts_with_any(head, {"PK\x03\x04"})) return "a zip archive";
  if (starts_with_any(head, {"MZ"})) return "a Windows library";
  if (starts_with_any(head, {"\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe"})) return "a macOS library";
  const bool is_text = std::all_of(head.begin(), head.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 || byte == '\n' || byte == '\r' || byte == '\t';
  });
  return is_text ? "text" : "other binary data";
}

constexpr std::uint64_t kMaxSegments = 1024;

}  // namespace

ElfImage::ElfImage(int fd, const std::string& path) : file_(fd, path) {
  read_header();
  read_segments();
  read_dynamic();
}

void ElfImage::read_header() {
  const std::uint64_t available = std::min<std::uint64_t>(file_.size_bytes(), sizeof header_);
  const std::vector<char> head = file_.read(0, available, "ELF header");
  const std::string_view text(head.data(), head.size());
  if (text.substr(0, SELFMAG) != std::string_view(ELFMAG, SELFMAG)) {
    throw loader_errors::not_elf(file_.path(), look_at(text));
  }
  file_.require(0, sizeof header_, "ELF header");
  std::memcpy(&header_, head.data(), sizeof header_);
  if (header_.e_ident[EI_CLASS] != ELFCLASS64) {
    throw loader_errors::wrong_elf_class(file_.path(), "a 32-bit object");
  }
  if (header_.e_ident[EI_DATA] != ELFDATA2LSB) {
    throw loader_errors::wrong_elf_class(file_.path(), "a big-endian object");
  }
  if (header_.e_type != ET_DYN) {
    const std::string_view found = header_.e_type == ET_EXEC   ? "a fixed-address executable"
                                   : header_.e_type == ET_REL  ? "a relocatable object"
                                   : header_.e_type == ET_CORE ? "a core dump"
                                                               : "an object of unknown type";
    throw loader_errors::not_shared_library(file_.path(), found);
  }
}

void ElfImage::read_segments() {
  if (header_.e_phentsize != sizeof(Elf64_Phdr) || header_.e_phnum == 0 ||
      header_.e_phnum > kMaxSegments) {
    throw loader_errors::malformed_elf(
        file_.path(), "program headers",
        fmt::format("{} entries of {} bytes", header_.e_phnum, header_.e_phentsize));
  }
  segments_ = file_.read_array<Elf64_Phdr>(header_.e_phoff, header_.e_phnum, "program headers");
  std::uint64_t last_address = 0;
  std::size_t loads = 0;
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_LOAD) continue;
    const std::string part = fmt::format("PT_LOAD segment {}", loads++);
    file_.require(segment.p_offset, segment.p_filesz, part);
    if (segment.p_memsz < segment.p_filesz || segment.p_vaddr + segment.p_memsz < segment.p_vaddr) {
      throw loader_errors::malformed_elf(file_.path(), part, "its memory size is impossible");
    }
    if (segment.p_vaddr < last_address || (segment.p_vaddr - segment.p_offset) % 4096 != 0) {
      throw loader_errors::malformed_elf(file_.path(), part, "its address is out of order");
    }
    last_address = segment.p_vaddr + segment.p_memsz;
  }
  if (loads == 0) throw loader_errors::malformed_elf(file_.path(), "program headers", "no PT_LOAD");
}

void ElfImage::read_dynamic() {
  const auto found = std::find_if(segments_.begin(), segments_.end(),
                                  [](const Elf64_Phdr& s) { return s.p_type == PT_DYNAMIC; });
  if (found == segments_.end()) {
    throw loader_errors::not_shared_library(file_.path(), "an object without PT_DYNAMIC");
  }
  // The dynamic linker reads it in memory, by address; both views must be the same bytes.
  const std::uint64_t offset = offset_of(found->p_vaddr, found->p_filesz, "PT_DYNAMIC");
  if (offset != found->p_offset) {
    throw loader_errors::malformed_elf(file_.path(), "PT_DYNAMIC", "offset and address disagree");
  }
  dynamic_ = file_.read_array<Elf64_Dyn>(offset, found->p_filesz / sizeof(Elf64_Dyn), "PT_DYNAMIC");
  const auto end = std::find_if(dynamic_.begin(), dynamic_.end(),
                                [](const Elf64_Dyn& entry) { return entry.d_tag == DT_NULL; });
  if (end == dynamic_.end()) {
    throw loader_errors::malformed_elf(file_.path(), "PT_DYNAMIC", "no end marker");
  }
  dynamic_.erase(end, dynamic_.end());
  if (!has(DT_STRTAB) || !has(DT_STRSZ) || !has(DT_SYMTAB) ||
      (!has(DT_HASH) && !has(DT_GNU_HASH))) {
    throw loader_errors::malformed_elf(file_.path(), "PT_DYNAMIC",
                                       "no string, symbol or hash table");
  }
  const std::uint64_t size_bytes = value(DT_STRSZ);
  strings_ = file_.read(offset_of(value(DT_STRTAB), size_bytes, "string table"), size_bytes,
                        "string table");
  for (const auto& [tag, size_tag, part] :
       {std::tuple{DT_INIT_ARRAY, DT_INIT_ARRAYSZ, "DT_INIT_ARRAY"},
        std::tuple{DT_FINI_ARRAY, DT_FINI_ARRAYSZ, "DT_FINI_ARRAY"}}) {
    if (has(tag)) offset_of(value(tag), value(size_tag), part);
  }
}

bool ElfImage::has(std::int64_t tag) const noexcept {
  return std::any_of(dynamic_.begin(), dynamic_.end(),
                     [&](const Elf64_Dyn& entry) { return entry.d_tag == tag; });
}

std::uint64_t ElfImage::value(std::int64_t tag) const noexcept {
  // The last one wins, as in the dynamic linker.
  std::uint64_t found = 0;
  for (const Elf64_Dyn& entry : dynamic_) {
    if (entry.d_tag == tag) found = entry.d_un.d_val;
  }
  return found;
}

std::uint64_t ElfImage::offset_of(std::uint64_t address, std::uint64_t size_bytes,
                                  std::string_view part) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr) continue;
    const std::uint64_t inside = address - segment.p_vaddr;
    if (inside <= segment.p_filesz && size_bytes <= segment.p_filesz - inside) {
      return segment.p_offset + inside;
    }
  }
  const std::uint64_t end = address + size_bytes;
  throw loader_errors::truncated_elf(file_.path(), part, end < address ? UINT64_MAX : end,
                                     file_.size_bytes());
}

std::string ElfImage::string_at(std::uint64_t offset, std::string_view part) const {
  if (offset >= strings_.size()) {
    throw loader_errors::truncated_elf(file_.path(), part, offset, strings_.size());
  }
  const char* begin = strings_.data() + offset;
  const auto* end = static_cast<const char*>(std::memchr(begin, 0, strings_.size() - offset));
  if (end == nullptr) {
    throw loader_errors::malformed_elf(file_.path(), part, "a name without end");
  }
  return {begin, end};
}

ElfFacts ElfImage::facts() const {
  ElfFacts facts;
  facts.machine = header_.e_machine;
  fill_segments(facts);
  fill_dynamic(facts);
  fill_symbols(facts);
  return facts;
}

void ElfImage::fill_segments(ElfFacts& facts) const {
  for (const Elf64_Phdr& segment : segments_) {
    switch (segment.p_type) {
      case PT_LOAD:
        if ((segment.p_flags & PF_W) && (segment.p_flags & PF_X)) {
          facts.writable_executable_segment = true;
        }
        break;
      case PT_GNU_STACK:
        facts.gnu_stack_present = true;
        facts.executable_stack = (segment.p_flags & PF_X) != 0;
        break;
      case PT_GNU_RELRO:
        facts.relro = true;
        break;
      case PT_TLS:
        if (value(DT_FLAGS) & DF_STATIC_TLS) facts.static_tls_bytes = segment.p_memsz;
        break;
      case PT_NOTE:
      case PT_GNU_PROPERTY:
        fill_notes(segment, facts);
        break;
      default:
        break;
    }
  }
}

void ElfImage::fill_dynamic(ElfFacts& facts) const {
  const std::uint64_t flags = value(DT_FLAGS);
  const std::uint64_t flags_1 = value(DT_FLAGS_1);
  if (flags_1 & DF_1_PIE) {
    throw loader_errors::not_shared_library(file_.path(), "a position-independent executable");
  }
  facts.bind_now = has(DT_BIND_NOW) || (flags & DF_BIND_NOW) || (flags_1 & DF_1_NOW);
  facts.has_text_relocations = has(DT_TEXTREL) || (flags & DF_TEXTREL);
  facts.no_delete = (flags_1 & DF_1_NODELETE) != 0;
  facts.init_first = (flags_1 & DF_1_INITFIRST) != 0;
  if (has(DT_SONAME)) facts.soname = string_at(value(DT_SONAME), "DT_SONAME");
  for (const Elf64_Dyn& entry : dynamic_) {
    if (entry.d_tag == DT_NEEDED) {
      facts.needed.push_back(string_at(entry.d_un.d_val, "DT_NEEDED"));
    } else if (entry.d_tag == DT_RPATH || entry.d_tag == DT_RUNPATH) {
      facts.run_paths.push_back(string_at(entry.d_un.d_val, "DT_RUNPATH"));
    }
  }
  for (const auto& [tag, name] : {std::pair{std::int64_t{DT_AUDIT}, "DT_AUDIT"},
                                  std::pair{std::int64_t{DT_DEPAUDIT}, "DT_DEPAUDIT"},
                                  std::pair{std::int64_t{DT_FILTER}, "DT_FILTER"},
                                  std::pair{std::int64_t{DT_AUXILIARY}, "DT_AUXILIARY"},
                                  std::pair{std::int64_t{DT_PREINIT_ARRAY}, "DT_PREINIT_ARRAY"}}) {
    if (has(tag)) facts.unsafe_tags.emplace_back(name);
  }
}

void ElfImage::fill_notes(const Elf64_Phdr& segment, ElfFacts& facts) const {
  // GNU_PROPERTY_X86_ISA_1_NEEDED of the x86-64 psABI; older <elf.h> lack the name.
  constexpr std::uint32_t kX86IsaNeeded = 0xc0008002;
  const std::vector<char> bytes = file_.read(segment.p_offset, segment.p_filesz, "PT_NOTE");
  const std::size_t align = segment.p_align == 8 ? 8 : 4;
  const auto word = [&](std::size_t at) {
    std::uint32_t out = 0;
    std::memcpy(&out, bytes.data() + at, sizeof out);
    return out;
  };
  const auto padded = [](std::size_t size, std::size_t to) { return (size + to - 1) / to * to; };
  std::size_t at = 0;
  while (at + 12 <= bytes.size()) {
    const std::size_t name_size = word(at), size = word(at + 4), type = word(at + 8);
    const std::size_t content = at + 12 + padded(name_size, 4);
    if (content > bytes.size() || size > bytes.size() - content) return;
    const bool is_gnu = name_size == 4 && std::memcmp(bytes.data() + at + 12, "GNU", 4) == 0;
    if (is_gnu && type == NT_GNU_BUILD_ID && facts.build_id.empty()) {
      for (std::size_t i = 0; i < size; ++i) {
        facts.build_id += fmt::format("{:02x}", static_cast<unsigned char>(bytes[content + i]));
      }
    } else if (is_gnu && type == NT_GNU_PROPERTY_TYPE_0) {
      for (std::size_t p = content; p + 12 <= content + size; p += 8 + padded(word(p + 4), 8)) {
        if (word(p) != kX86IsaNeeded || word(p + 4) != 4) continue;
        facts.x86_isa_level = static_cast<int>(std::bit_width(word(p + 8)));
      }
    }
    at = content + padded(size, align);
  }
}

ElfFacts read_elf(int fd, const std::string& path) { return ElfImage(fd, path).facts(); }

}  // namespace kernelhub::loader

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/loader/preflight.h"

#include <cstdint>
#include <elf.h>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::loader {

/// Reads of an open file that never leave it: a range outside is kTruncatedElf naming `part`.
/// Uses pread, so a file that shrinks meanwhile is an error and not a signal.
class BoundedFile {
 public:
  BoundedFile(int fd, std::string path);
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  const std::string& path() const noexcept { return path_; }
  std::vector<char> read(std::uint64_t offset, std::uint64_t size_bytes,
                         std::string_view part) const;
  template <class T>
  std::vector<T> read_array(std::uint64_t offset, std::uint64_t count, std::string_view part) const;
  /// The whole range lies inside the file.
  void require(std::uint64_t offset, std::uint64_t size_bytes, std::string_view part) const;

 private:
  void read_into(void* out, std::uint64_t offset, std::uint64_t size_bytes,
                 std::string_view part) const;

  int fd_;
  std::string path_;
  std::uint64_t size_bytes_;
};

template <class T>
std::vector<T> BoundedFile::read_array(std::uint64_t offset, std::uint64_t count,
                                       std::string_view part) const {
  if (count > size_bytes_)
    count = size_bytes_;  // sizeof(T) > 1: still fails `require`, no overflow
  require(offset, count * sizeof(T), part);
  std::vector<T> items(count);
  read_into(items.data(), offset, count * sizeof(T), part);
  return items;
}

/// A 64-bit little-endian shared object, read through program headers and PT_DYNAMIC only: section
/// headers may be stripped or lie. The constructor checks the header and every segment.
class ElfImage {
 public:
  ElfImage(int fd, const std::string& path);
  ElfFacts facts() const;
  /// Names in `.gnu.version_d`, e.g. "GLIBCXX_3.4.30".
  std::set<std::string> version_definitions() const;
  /// File offset of st_info of each undefined symbol that `names` holds.
  std::vector<std::uint64_t> binding_offsets(const std::set<std::string>& names) const;

 private:
  struct Symbols;
  void read_header();
  void read_segments();
  void read_dynamic();
  bool has(std::int64_t tag) const noexcept;
  std::uint64_t value(std::int64_t tag) const noexcept;
  /// File offset of a virtual address; kTruncatedElf unless `size_bytes` from it are in one
  /// segment.
  std::uint64_t offset_of(std::uint64_t address, std::uint64_t size_bytes,
                          std::string_view part) const;
  std::string string_at(std::uint64_t offset, std::string_view part) const;
  std::uint64_t symbol_count() const;
  std::uint64_t gnu_hash_symbol_count() const;
  std::vector<Elf64_Rela> relocations(std::int64_t address_tag, std::int64_t size_tag,
                                      std::string_view part) const;
  std::vector<Elf64_Rela> all_relocations() const;
  std::vector<Elf64_Sym> symbols() const;
  void fill_dynamic(ElfFacts& facts) const;
  void fill_segments(ElfFacts& facts) const;
  void fill_notes(const Elf64_Phdr& segment, ElfFacts& facts) const;
  void fill_symbols(ElfFacts& facts) const;
  void fill_python_relocations(const std::vector<Elf64_Sym>& symbols, ElfFacts& facts) const;
  std::vector<std::string> version_names(ElfFacts& facts) const;

  BoundedFile file_;
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> segments_;
  std::vector<Elf64_Dyn> dynamic_;
  std::vector<char> strings_;
};

}  // namespace kernelhub::loader

// SPDX-License-Identifier: Apache-2.0
#include "elf_image.h"
#include "loader_errors.h"
#include "preflight_checks.h"

#include <algorithm>
#include <cstring>

namespace kernelhub::loader {
namespace {

constexpr std::uint16_t kVersionHidden = 0x8000;
// Far above any real library; a hostile table ends here and not after hours.
constexpr std::uint64_t kMaxChain = 1 << 20;
constexpr std::uint64_t kMaxVersions = 1 << 16;

bool is_jump_slot(std::uint16_t machine, std::uint32_t type) {
  return machine == EM_AARCH64 ? type == R_AARCH64_JUMP_SLOT : type == R_X86_64_JUMP_SLOT;
}

}  // namespace

std::uint64_t ElfImage::gnu_hash_symbol_count() const {
  struct Header {
    std::uint32_t buckets, first_symbol, bloom_words, bloom_shift;
  };
  const std::uint64_t address = value(DT_GNU_HASH);
  const auto head = file_.read_array<Header>(offset_of(address, sizeof(Header), "hash table"), 1,
                                             "hash table")[0];
  const std::uint64_t buckets_at = address + sizeof(Header) + std::uint64_t{head.bloom_words} * 8;
  const auto buckets = file_.read_array<std::uint32_t>(
      offset_of(buckets_at, std::uint64_t{head.buckets} * 4, "hash buckets"), head.buckets,
      "hash buckets");
  const std::uint32_t last =
      buckets.empty() ? 0 : *std::max_element(buckets.begin(), buckets.end());
  if (last < head.first_symbol) return head.first_symbol;
  // The chain of the highest bucket ends the table; a set low bit marks the end of a chain.
  const std::uint64_t chains_at = buckets_at + std::uint64_t{head.buckets} * 4;
  for (std::uint64_t index = last; index < last + kMaxChain; ++index) {
    const std::uint64_t at = chains_at + (index - head.first_symbol) * 4;
    const auto link =
        file_.read_array<std::uint32_t>(offset_of(at, 4, "hash chain"), 1, "hash chain")[0];
    if (link & 1) return index + 1;
  }
  throw loader_errors::malformed_elf(file_.path(), "hash chain", "no end marker");
}

std::uint64_t ElfImage::symbol_count() const {
  std::uint64_t count = 0;
  if (has(DT_HASH)) {
    const std::uint64_t at = offset_of(value(DT_HASH), 8, "hash table");
    count = file_.read_array<std::uint32_t>(at, 2, "hash table")[1];
  } else {
    count = gnu_hash_symbol_count();
  }
  // With nothing exported a GNU hash table does not tell how many undefined symbols there are.
  for (const Elf64_Rela& relocation : all_relocations()) {
    count = std::max<std::uint64_t>(count, ELF64_R_SYM(relocation.r_info) + 1);
  }
  return count;
}

std::vector<Elf64_Rela> ElfImage::relocations(std::int64_t address_tag, std::int64_t size_tag,
                                              std::string_view part) const {
  if (!has(address_tag)) return {};
  const std::uint64_t size_bytes = value(size_tag);
  return file_.read_array<Elf64_Rela>(offset_of(value(address_tag), size_bytes, part),
                                      size_bytes / sizeof(Elf64_Rela), part);
}

std::vector<Elf64_Rela> ElfImage::all_relocations() const {
  std::vector<Elf64_Rela> all = relocations(DT_RELA, DT_RELASZ, "DT_RELA");
  const std::vector<Elf64_Rela> plt = relocations(DT_JMPREL, DT_PLTRELSZ, "DT_JMPREL");
  all.insert(all.end(), plt.begin(), plt.end());
  return all;
}

std::vector<Elf64_Sym> ElfImage::symbols() const {
  const std::uint64_t count = std::min(symbol_count(), file_.size_bytes());
  return file_.read_array<Elf64_Sym>(
      offset_of(value(DT_SYMTAB), count * sizeof(Elf64_Sym), "symbol table"), count,
      "symbol table");
}

std::vector<std::string> ElfImage::version_names(ElfFacts& facts) const {
  std::vector<std::string> names;  // version index -> name, of needed versions
  if (!has(DT_VERNEED)) return names;
  std::uint64_t at = value(DT_VERNEED);
  for (std::uint64_t left = std::min(value(DT_VERNEEDNUM), kMaxVersions); left > 0; --left) {
    const auto need = file_.read_array<Elf64_Verneed>(
        offset_of(at, sizeof(Elf64_Verneed), "version needs"), 1, "version needs")[0];
    const std::string library = string_at(need.vn_file, "version needs");
    std::uint64_t entry_at = at + need.vn_aux;
    for (std::uint32_t entries = need.vn_cnt; entries > 0; --entries) {
      const auto entry = file_.read_array<Elf64_Vernaux>(
          offset_of(entry_at, sizeof(Elf64_Vernaux), "version needs"), 1, "version needs")[0];
      const std::string version = string_at(entry.vna_name, "version needs");
      if (facts.version_needs.size() >= kMaxVersions) {
        throw loader_errors::malformed_elf(file_.path(), "version needs", "more than 65536");
      }
      const std::size_t index = entry.vna_other & ~kVersionHidden;
      if (names.size() <= index) names.resize(index + 1);
      names[index] = version;
      facts.version_needs.push_back({library, version});
      if (entry.vna_next == 0) break;
      entry_at += entry.vna_next;
    }
    if (need.vn_next == 0) break;
    at += need.vn_next;
  }
  return names;
}

std::set<std::string> ElfImage::version_definitions() const {
  std::set<std::string> names;
  if (!has(DT_VERDEF)) return names;
  std::uint64_t at = value(DT_VERDEF);
  for (std::uint64_t left = std::min(value(DT_VERDEFNUM), kMaxVersions); left > 0; --left) {
    const auto definition = file_.read_array<Elf64_Verdef>(
        offset_of(at, sizeof(Elf64_Verdef), "version definitions"), 1, "version definitions")[0];
    const auto name = file_.read_array<Elf64_Verdaux>(
        offset_of(at + definition.vd_aux, sizeof(Elf64_Verdaux), "version definitions"), 1,
        "version definitions")[0];
    names.insert(string_at(name.vda_name, "version definitions"));
    if (names.size() >= kMaxVersions) break;
    if (definition.vd_next == 0) break;
    at += definition.vd_next;
  }
  return names;
}

void ElfImage::fill_symbols(ElfFacts& facts) const {
  const std::vector<Elf64_Sym> table = symbols();
  const std::vector<std::string> names = version_names(facts);
  std::vector<std::uint16_t> versions;
  if (has(DT_VERSYM)) {
    versions = file_.read_array<std::uint16_t>(
        offset_of(value(DT_VERSYM), table.size() * 2, "symbol versions"), table.size(),
        "symbol versions");
  }
  for (std::size_t i = 1; i < table.size(); ++i) {
    const Elf64_Sym& symbol = table[i];
    const unsigned binding = ELF64_ST_BIND(symbol.st_info);
    if (binding == STB_LOCAL || symbol.st_name == 0) continue;
    ElfFacts::Symbol fact;
    fact.name = string_at(symbol.st_name, "symbol name");
    fact.weak = binding == STB_WEAK;
    fact.unique = binding == STB_GNU_UNIQUE;
    fact.function = ELF64_ST_TYPE(symbol.st_info) == STT_FUNC;
    const bool undefined = symbol.st_shndx == SHN_UNDEF;
    if (undefined && i < versions.size()) {
      const std::size_t index = versions[i] & ~kVersionHidden;
      if (index < names.size()) fact.version = names[index];
    }
    (undefined ? facts.undefined : facts.defined).push_back(std::move(fact));
  }
  fill_python_relocations(table, facts);
}

void ElfImage::fill_python_relocations(const std::vector<Elf64_Sym>& table, ElfFacts& facts) const {
  std::set<std::string> names;
  for (const Elf64_Rela& relocation : all_relocations()) {
    const std::uint64_t index = ELF64_R_SYM(relocation.r_info);
    if (index == 0 || index >= table.size() || table[index].st_shndx != SHN_UNDEF) continue;
    if (is_jump_slot(header_.e_machine,
                     static_cast<std::uint32_t>(ELF64_R_TYPE(relocation.r_info)))) {
      continue;
    }
    const std::string name = string_at(table[index].st_name, "symbol name");
    if (is_python_symbol(name)) names.insert(name);
  }
  facts.non_plt_python.assign(names.begin(), names.end());
}

std::vector<std::uint64_t> ElfImage::binding_offsets(const std::set<std::string>& names) const {
  const std::vector<Elf64_Sym> table = symbols();
  const std::uint64_t begin =
      offset_of(value(DT_SYMTAB), table.size() * sizeof(Elf64_Sym), "symbol table");
  std::vector<std::uint64_t> offsets;
  for (std::size_t i = 1; i < table.size(); ++i) {
    if (table[i].st_shndx != SHN_UNDEF || table[i].st_name == 0) continue;
    if (names.count(string_at(table[i].st_name, "symbol name")) == 0) continue;
    offsets.push_back(begin + i * sizeof(Elf64_Sym) + offsetof(Elf64_Sym, st_info));
  }
  return offsets;
}

}  // namespace kernelhub::loader

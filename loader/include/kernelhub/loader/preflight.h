// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/backend.h"
#include "kernelhub/core/export.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// ELF checks on an open file before anything of it runs (loader spec 4).
namespace kernelhub::loader {

/// Facts read from the file by bounds-checked parsing of program headers and PT_DYNAMIC only.
struct ElfFacts {
  std::uint16_t machine = 0;
  std::string soname;
  std::string build_id;                // hex
  std::vector<std::string> needed;     // DT_NEEDED in order
  std::vector<std::string> run_paths;  // RPATH and RUNPATH entries
  struct VersionNeed {
    std::string library, version;  // "libc.so.6", "GLIBC_2.28"
  };
  std::vector<VersionNeed> version_needs;
  struct Symbol {
    std::string name;
    std::string version;  // needed version, empty if none
    bool weak = false;
    bool function = false;
    bool unique = false;  // STB_GNU_UNIQUE
  };
  std::vector<Symbol> undefined;
  std::vector<Symbol> defined;  // exported
  bool bind_now = false;
  bool has_text_relocations = false;
  bool executable_stack = false;
  bool gnu_stack_present = false;
  bool relro = false;
  bool writable_executable_segment = false;
  bool no_delete = false;
  bool init_first = false;
  std::uint64_t static_tls_bytes = 0;
  int x86_isa_level = 0;                    // from .note.gnu.property, 0 = none
  std::vector<std::string> unsafe_tags;     // DT_AUDIT, DT_FILTER, ...
  std::vector<std::string> non_plt_python;  // undefined Py* with other than JUMP_SLOT relocations
};

struct Finding {
  enum class Severity : std::uint8_t { kNote, kWarning, kError };
  Severity severity = Severity::kError;
  std::string check;  // "NotElf", "MissingSymbols", ...: an ErrorCode name
  std::string message;
};

struct PreflightReport {
  ElfFacts facts;
  std::vector<Finding> findings;
  bool ok() const noexcept;
};

struct PreflightOptions {
  bool local_evidence = false;          // RPATH outside $ORIGIN only warns
  bool strict = false;                  // unexpected DT_NEEDED is an error
  bool resolve_against_process = true;  // false: file-only checks, for `check` of foreign variants
  std::filesystem::path tvm_ffi_library;  // libtvm_ffi.so to map when one is needed, may be empty
};

/// Parses the file behind `fd`. Throws LoadError kNotElf, kWrongElfClass, kNotSharedLibrary,
/// kTruncatedElf. `path` is for messages only.
KERNELHUB_API ElfFacts read_elf(int fd, const std::string& path);
/// All checks; findings instead of exceptions, but for an unreadable file. With
/// `resolve_against_process` the allowed libraries that the file needs become mapped (by absolute
/// path, RTLD_LOCAL), because its symbols are looked up in them.
KERNELHUB_API PreflightReport preflight(int fd, const std::string& path,
                                        const PreflightOptions& options);
/// preflight() that throws LoadError of the first error finding, listing all in details().
KERNELHUB_API PreflightReport require_preflight(int fd, const std::string& path,
                                                const PreflightOptions& options);

/// True for the sonames that a published package may need (DT_NEEDED): torch, the libraries torch
/// itself brings (CUDA, ROCm), libtvm_ffi and the C and C++ run time.
KERNELHUB_API bool is_allowed_dependency(std::string_view soname);
/// First torch whose C shim has this function; nothing for 2.9 and older, or for other symbols.
KERNELHUB_API std::optional<MajorMinor> shim_introduced_in(std::string_view symbol);

}  // namespace kernelhub::loader

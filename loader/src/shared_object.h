// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <vector>

namespace kernelhub::loader {

/// When undefined functions are bound.
enum class Binding : std::uint8_t { kNow, kLazy };

/// One object mapped by the dynamic linker.
struct MappedObject {
  std::string path;  // as the dynamic linker knows it
  std::uint64_t base = 0;
  std::uint64_t dynamic = 0;  // address of its dynamic section
};

/// A library opened through a descriptor as `/proc/<pid>/fd/N`: the name is of this process, so
/// that a debugger opens the same file, and the descriptor stays open as long as the object may be
/// mapped, because the dynamic linker compares names before files (loader spec 5). RTLD_LOCAL.
class SharedObject {
 public:
  SharedObject(SharedObject&&) noexcept;
  SharedObject& operator=(SharedObject&&) noexcept;
  /// Unmaps unless pinned.
  ~SharedObject();

  /// `path` is for messages. Throws kDlopenFailed, kIdentityMismatch.
  static SharedObject open(int fd, const std::string& path, Binding binding);
  /// The object when the dynamic linker already has this very file (device and inode) mapped. The
  /// descriptor may be closed afterwards.
  static std::optional<SharedObject> find(int fd, const std::string& path);

  /// As the dynamic linker knows it: dlopen finds the object by this name.
  std::string name() const;
  /// Null when it has no such symbol.
  void* symbol(const char* name) const noexcept;
  /// The dynamic linker still has it.
  bool is_mapped() const noexcept;
  /// Never unmapped from now on (loader spec D6).
  void pin() noexcept { pinned_ = true; }

 private:
  explicit SharedObject(void* handle, std::string path) noexcept;
  void require_identity(int fd) const;

  void* handle_ = nullptr;
  std::string path_;
  bool pinned_ = false;
};

/// Symbols that a package could bind to: the program's global scope and its needed libraries as
/// far as they are mapped.
class SymbolScope {
 public:
  explicit SymbolScope(const std::vector<std::string>& needed);
  ~SymbolScope();
  SymbolScope(const SymbolScope&) = delete;
  SymbolScope& operator=(const SymbolScope&) = delete;
  /// `version` may be empty.
  bool has(const std::string& name, const std::string& version) const noexcept;

 private:
  std::vector<void*> handles_;
};

/// Everything mapped now, the program first.
std::vector<MappedObject> mapped_objects();
/// How many objects were ever mapped: changes whenever one is added. Cheap, no system call.
std::uint64_t count_mapped_ever() noexcept;
/// The mapped object of this soname (or file name).
std::optional<MappedObject> find_mapped_library(std::string_view soname);
/// Maps a system or torch library by absolute path and keeps it. Throws kDlopenFailed.
void map_library(const std::filesystem::path& library);
/// Maps the library behind a descriptor under its own soname and keeps both.
void map_library(UniqueFd fd, const std::string& name);
/// Symbol of the program's global scope, null when absent.
void* process_symbol(const char* name) noexcept;
/// LD_LIBRARY_PATH as it was when the process started, which is when the dynamic linker read it.
std::vector<std::filesystem::path> environment_directories();
/// Where the dynamic linker looks for what a mapped library needs (the program's needs for an empty
/// name): its RPATH or RUNPATH and the built-in directories, without `environment`. Empty when the
/// library is not mapped.
std::vector<std::filesystem::path> trusted_directories(
    std::string_view soname, const std::vector<std::filesystem::path>& environment);

}  // namespace kernelhub::loader

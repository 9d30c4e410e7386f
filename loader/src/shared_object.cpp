// SPDX-License-Identifier: Apache-2.0
#include "shared_object.h"

#include "loader_errors.h"
#include "never_destroyed.h"

#include "kernelhub/core/log.h"
#include "kernelhub/loader/mapped_symbol.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <dlfcn.h>
#include <fstream>
#include <link.h>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace kernelhub::loader {
namespace {

std::string descriptor_path(int fd) { return fmt::format("/proc/{}/fd/{}", getpid(), fd); }

/// Read once and at once: a later call of the dynamic linker replaces it.
std::string take_dlerror() {
  const char* text = dlerror();
  return text == nullptr ? "the dynamic linker gave no reason" : text;
}

/// The text with our descriptor name replaced by the path that a user knows.
std::string readable(std::string text, const std::string& name, const std::string& path) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
    text.replace(at, name.size(), path);
    at += path.size();
  }
  return text;
}

link_map* link_map_of(void* handle) {
  link_map* map = nullptr;
  return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map : nullptr;
}

struct Mapping {
  std::uint64_t begin = 0, end = 0;
  std::uint64_t device = 0;  // as /proc/self/maps prints it: major << 32 | minor
  std::uint64_t inode = 0;
  std::string path;
  bool is_of_file(const Mapping& other) const {
    return inode != 0 && device == other.device && inode == other.inode;
  }
};

/// What this process has mapped, as the kernel tells it.
class Mappings {
 public:
  Mappings() {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      unsigned long long begin = 0, end = 0, offset = 0, inode = 0;
      unsigned major = 0, minor = 0;
      int path_at = 0;
      if (std::sscanf(line.c_str(), "%llx-%llx %*4s %llx %x:%x %llu %n", &begin, &end, &offset,
                      &major, &minor, &inode, &path_at) < 6) {
        continue;
      }
      mappings_.push_back(
          {begin, end, std::uint64_t{major} << 32 | minor, inode, line.substr(path_at)});
    }
  }
  const Mapping* at(std::uint64_t address) const {
    const auto found = std::find_if(mappings_.begin(), mappings_.end(), [&](const Mapping& other) {
      return address >= other.begin && address < other.end;
    });
    return found == mappings_.end() ? nullptr : &*found;
  }

 private:
  std::vector<Mapping> mappings_;
};

/// One page of a file, mapped only to see how the kernel names that file: stat(2) may tell another
/// device on overlay file systems.
class ReferencePage {
 public:
  explicit ReferencePage(int fd)
      : size_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        page_(mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0)) {}
  ReferencePage(const ReferencePage&) = delete;
  ReferencePage& operator=(const ReferencePage&) = delete;
  ~ReferencePage() {
    if (page_ != MAP_FAILED) munmap(page_, size_);
  }
  /// Null when the file cannot be mapped.
  const Mapping* in(const Mappings& mappings) const {
    return page_ == MAP_FAILED ? nullptr : mappings.at(reinterpret_cast<std::uint64_t>(page_));
  }

 private:
  std::size_t size_;
  void* page_;
};

std::string_view file_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

SharedObject::SharedObject(void* handle, std::string path) noexcept
    : handle_(handle), path_(std::move(path)) {}

SharedObject::SharedObject(SharedObject&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)),
      path_(std::move(other.path_)),
      pinned_(other.pinned_) {}

SharedObject& SharedObject::operator=(SharedObject&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(path_, other.path_);
  std::swap(pinned_, other.pinned_);
  return *this;
}

SharedObject::~SharedObject() {
  if (handle_ == nullptr || pinned_) return;
  if (dlclose(handle_) != 0) log(LogLevel::kError, fmt::format("{}: {}", path_, take_dlerror()));
}

SharedObject SharedObject::open(int fd, const std::string& path, Binding binding) {
  const std::string name = descriptor_path(fd);
  const int mode = (binding == Binding::kNow ? RTLD_NOW : RTLD_LAZY) | RTLD_LOCAL;
  void* handle = dlopen(name.c_str(), mode);
  if (handle == nullptr) {
    throw loader_errors::dlopen_failed(path, readable(take_dlerror(), name, path));
  }
  SharedObject object(handle, path);
  object.require_identity(fd);
  return object;
}

std::optional<SharedObject> SharedObject::find(int fd, const std::string& path) {
  const ReferencePage reference(fd);
  const Mappings mappings;
  const Mapping* wanted = reference.in(mappings);
  if (wanted == nullptr) return std::nullopt;
  for (const MappedObject& object : mapped_objects()) {
    const Mapping* mapping = mappings.at(object.dynamic);
    if (mapping == nullptr || object.path.empty() || !mapping->is_of_file(*wanted)) continue;
    // By the name that it has: asked by another one, the dynamic linker would add that name to the
    // object and keep it longer than the descriptor is ours (loader spec T2).
    void* handle = dlopen(object.path.c_str(), RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle == nullptr) {
      dlerror();
      continue;
    }
    SharedObject found(handle, path);
    found.require_identity(fd);
    return found;
  }
  return std::nullopt;
}

void SharedObject::require_identity(int fd) const {
  const link_map* map = link_map_of(handle_);
  const ReferencePage reference(fd);
  const Mappings mappings;
  const Mapping* wanted = reference.in(mappings);
  if (map == nullptr || wanted == nullptr) {
    throw loader_errors::identity_mismatch(path_, "an object that cannot be examined");
  }
  const Mapping* found = mappings.at(reinterpret_cast<std::uint64_t>(map->l_ld));
  if (found == nullptr || !found->is_of_file(*wanted)) {
    throw loader_errors::identity_mismatch(path_, found != nullptr ? found->path : "no file");
  }
}

std::string SharedObject::name() const { return link_map_of(handle_)->l_name; }

void* SharedObject::symbol(const char* name) const noexcept { return dlsym(handle_, name); }

bool SharedObject::is_mapped() const noexcept {
  struct Search {
    std::uint64_t base;
    bool found;
  } search{link_map_of(handle_)->l_addr, false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        auto* wanted = static_cast<Search*>(out);
        wanted->found = wanted->found || info->dlpi_addr == wanted->base;
        return wanted->found ? 1 : 0;
      },
      &search);
  return search.found;
}

SymbolScope::SymbolScope(const std::vector<std::string>& needed) {
  handles_.push_back(dlopen(nullptr, RTLD_LAZY));
  for (const std::string& soname : needed) {
    void* handle = dlopen(soname.c_str(), RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle != nullptr) handles_.push_back(handle);
  }
  dlerror();
}

SymbolScope::~SymbolScope() {
  for (void* handle : handles_) dlclose(handle);
}

bool SymbolScope::has(const std::string& name, const std::string& version) const noexcept {
  return std::any_of(handles_.begin(), handles_.end(), [&](void* handle) {
    return (version.empty() ? dlsym(handle, name.c_str())
                            : dlvsym(handle, name.c_str(), version.c_str())) != nullptr;
  });
}

std::vector<MappedObject> mapped_objects() {
  std::vector<MappedObject> objects;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        MappedObject object{info->dlpi_name, static_cast<std::uint64_t>(info->dlpi_addr), 0};
        for (const auto* header = info->dlpi_phdr; header != info->dlpi_phdr + info->dlpi_phnum;
             ++header) {
          if (header->p_type == PT_DYNAMIC) object.dynamic = object.base + header->p_vaddr;
        }
        static_cast<std::vector<MappedObject>*>(out)->push_back(std::move(object));
        return 0;
      },
      &objects);
  return objects;
}

std::uint64_t count_mapped_ever() noexcept {
  std::uint64_t count = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<std::uint64_t*>(out) = info->dlpi_adds;
        return 1;
      },
      &count);
  return count;
}

std::optional<MappedObject> find_mapped_library(std::string_view soname) {
  for (MappedObject& object : mapped_objects()) {
    if (file_name(object.path) == soname) return std::move(object);
  }
  // Mapped under another file name: only the dynamic linker knows its soname.
  void* handle = dlopen(std::string(soname).c_str(), RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
  if (handle == nullptr) {
    dlerror();
    return std::nullopt;
  }
  const link_map* map = link_map_of(handle);
  MappedObject object{map->l_name, static_cast<std::uint64_t>(map->l_addr),
                      reinterpret_cast<std::uint64_t>(map->l_ld)};
  dlclose(handle);
  return object;
}

void map_library(const std::filesystem::path& library) {
  if (dlopen(library.c_str(), RTLD_LAZY | RTLD_LOCAL) == nullptr) {
    throw loader_errors::dlopen_failed(library.string(), take_dlerror());
  }
}

void map_library(UniqueFd fd, const std::string& name) {
  static std::mutex mutex;
  static NeverDestroyed<std::vector<UniqueFd>> kept;
  SharedObject object = SharedObject::open(fd.get(), name, Binding::kNow);
  object.pin();
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(fd));  // the name of a mapped object is never given to another file
}

void* process_symbol(const char* name) noexcept {
  void* program = dlopen(nullptr, RTLD_LAZY);
  void* found = dlsym(program, name);
  dlclose(program);
  return found;
}

void* mapped_symbol(std::string_view soname, const char* name) noexcept {
  const std::optional<MappedObject> object = find_mapped_library(soname);
  if (!object) return nullptr;
  void* handle = dlopen(object->path.c_str(), RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
  if (handle == nullptr) return nullptr;
  void* found = dlsym(handle, name);
  dlclose(handle);
  return found;
}

std::vector<std::filesystem::path> environment_directories() {
  constexpr std::string_view kName = "LD_LIBRARY_PATH=";
  std::vector<std::filesystem::path> directories;
  std::ifstream environment("/proc/self/environ");
  for (std::string entry; std::getline(environment, entry, '\0');) {
    if (entry.compare(0, kName.size(), kName) != 0) continue;
    for (std::size_t begin = kName.size(); begin <= entry.size();) {
      const std::size_t end = std::min(entry.find_first_of(":;", begin), entry.size());
      directories.emplace_back(entry.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return directories;
}

std::vector<std::filesystem::path> trusted_directories(
    std::string_view soname, const std::vector<std::filesystem::path>& environment) {
  std::vector<std::filesystem::path> directories;
  void* handle = soname.empty() ? dlopen(nullptr, RTLD_LAZY)
                                : dlopen(std::string(soname).c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) {
    dlerror();
    return directories;
  }
  Dl_serinfo size{};
  if (dlinfo(handle, RTLD_DI_SERINFOSIZE, &size) == 0) {
    std::vector<char> storage(size.dls_size);
    auto* info = reinterpret_cast<Dl_serinfo*>(storage.data());
    *info = size;
    const unsigned count = dlinfo(handle, RTLD_DI_SERINFO, info) == 0 ? info->dls_cnt : 0;
    for (unsigned i = 0; i < count; ++i) directories.emplace_back(info->dls_serpath[i].dls_name);
  }
  dlclose(handle);
  // glibc does not say where an entry comes from. The environment's come before the built-in ones,
  // so the first of two equal ones is the environment's.
  for (const std::filesystem::path& entry : environment) {
    const auto found = std::find_if(directories.begin(), directories.end(), [&](const auto& other) {
      return entry.lexically_normal() / "" == other.lexically_normal() / "";
    });
    if (found != directories.end()) directories.erase(found);
  }
  return directories;
}

}  // namespace kernelhub::loader

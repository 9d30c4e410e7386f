// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/safe_path.h"

#include "kernelhub/core/core_errors.h"

#include <openssl/asn1.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kernelhub {
namespace {

constexpr std::size_t kMaxPathBytes = 1024;
constexpr std::size_t kMaxComponentBytes = 255;
constexpr std::size_t kMaxDepth = 16;

// Characters drawn like '/' or '\': fraction slash, division slash, set minus, big solidus and
// reverse solidus forms, full-width and small forms.
constexpr std::array<unsigned long, 11> kSeparatorLookalikes = {
    0x2044, 0x2215, 0x2216, 0x27CB, 0x27CD, 0x29F5, 0x29F8, 0x29F9, 0xFE68, 0xFF0F, 0xFF3C};

std::string_view character_fault(std::string_view text) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  int left = static_cast<int>(text.size());
  while (left > 0) {
    unsigned long code_point = 0;
    const int used = UTF8_getc(bytes, left, &code_point);
    if (used <= 0 || code_point > 0x10FFFF) return "it is not valid UTF-8";
    if (code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0)) {
      return "it has a control character";
    }
    if (code_point == '\\') return "it has a backslash";
    if (std::find(kSeparatorLookalikes.begin(), kSeparatorLookalikes.end(), code_point) !=
        kSeparatorLookalikes.end()) {
      return "it has a character that looks like a path separator";
    }
    bytes += used;
    left -= used;
  }
  return "";
}

/// Names that are devices on other systems, with any extension.
bool is_device_name(std::string_view component) noexcept {
  const std::string_view stem = component.substr(0, component.find('.'));
  constexpr std::array<std::string_view, 4> kWords = {"con", "prn", "aux", "nul"};
  const auto same = [&](std::string_view word) {
    return stem.size() == word.size() && ::strncasecmp(stem.data(), word.data(), word.size()) == 0;
  };
  if (std::any_of(kWords.begin(), kWords.end(), same)) return true;
  return stem.size() == 4 && stem[3] >= '1' && stem[3] <= '9' &&
         (::strncasecmp(stem.data(), "com", 3) == 0 || ::strncasecmp(stem.data(), "lpt", 3) == 0);
}

std::string_view component_fault(std::string_view component) noexcept {
  if (component.empty()) return "it has an empty component";
  if (component == "." || component == "..") return "it has a '.' or '..' component";
  if (component.size() > kMaxComponentBytes) return "a component is longer than 255 bytes";
  if (component.back() == '.' || component.back() == ' ') {
    return "a component ends with a dot or a blank";
  }
  if (is_device_name(component)) return "a component is a device name";
  return "";
}

/// Why `text` does not stay below its root; empty when it does.
std::string_view path_fault(std::string_view text) noexcept {
  if (text.empty()) return "it is empty";
  if (text.size() > kMaxPathBytes) return "it is longer than 1024 bytes";
  if (text.front() == '/') return "it is absolute";
  if (text.size() >= 2 && text[1] == ':') return "it starts with a drive letter";
  const std::string_view fault = character_fault(text);
  if (!fault.empty()) return fault;
  std::size_t depth = 0;
  while (true) {
    const std::size_t slash = text.find('/');
    const std::string_view component = component_fault(text.substr(0, slash));
    if (!component.empty()) return component;
    if (++depth > kMaxDepth) return "it has more than 16 components";
    if (slash == std::string_view::npos) return "";
    text.remove_prefix(slash + 1);
  }
}

mode_t creation_mode(int flags) { return (flags & O_CREAT) != 0 ? 0600 : 0; }

/// For kernels and sandboxes without openat2: follows no link at all.
int walk_beneath(int root_fd, std::string_view path, int flags) {
  UniqueFd directory;
  int at = root_fd;
  while (true) {
    const std::size_t slash = path.find('/');
    const std::string component(path.substr(0, slash));
    if (slash == std::string_view::npos) {
      return ::openat(at, component.c_str(), flags | O_NOFOLLOW, creation_mode(flags));
    }
    const int next = ::openat(at, component.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0) return -1;
    directory = UniqueFd(next);
    at = directory.get();
    path.remove_prefix(slash + 1);
  }
}

int open_resolved(int root_fd, const std::string& path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags);
  how.mode = creation_mode(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  constexpr int kRaceRetries = 64;  // EAGAIN: a rename elsewhere raced with the resolution
  for (int attempt = 0;; ++attempt) {
    const long fd = ::syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof(how));
    if (fd >= 0) return static_cast<int>(fd);
    if (errno == EINTR || (errno == EAGAIN && attempt < kRaceRetries)) continue;
    if (errno == ENOSYS || errno == EPERM) return walk_beneath(root_fd, path, flags);
    return -1;
  }
}

}  // namespace

SafeRelPath SafeRelPath::parse(std::string_view text, std::string_view origin) {
  const std::string_view fault = path_fault(text);
  if (!fault.empty()) throw core_errors::unsafe_path(text, origin, fault);
  return SafeRelPath(std::string(text));
}

bool SafeRelPath::is_safe(std::string_view text) noexcept { return path_fault(text).empty(); }

UniqueFd open_beneath(int root_fd, const SafeRelPath& relative, int flags) {
  const int fd = open_resolved(root_fd, relative.str(), flags | O_CLOEXEC);
  if (fd >= 0) return UniqueFd(fd);
  if (errno == EXDEV || errno == ELOOP) {
    throw core_errors::unsafe_path(relative.str(), "open", "a link on it leaves the directory");
  }
  if ((flags & O_ACCMODE) == O_RDONLY) throw core_errors::read_failed(relative.str(), errno);
  throw core_errors::write_failed("open", relative.str(), errno);
}

}  // namespace kernelhub

// SPDX-License-Identifier: Apache-2.0
// The one include of toml++. Version 3.3 answers some malformed documents ("[[[") with an assertion
// that ends the process, and compiles the check to undefined behaviour under NDEBUG; here such a
// document is refused like any other.
#pragma once

#ifdef TOMLPLUSPLUS_H
#error "include kernelhub/core/toml.h instead of toml++"
#endif

#include "kernelhub/core/export.h"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace kernelhub {

/// A document that is not TOML; `line` is 0 when the library does not tell.
struct TomlSyntaxError : std::runtime_error {
  TomlSyntaxError(const std::string& description, std::uint32_t at)
      : std::runtime_error(description), line(at) {}
  std::uint32_t line;
};

[[noreturn]] inline void fail_toml() { throw TomlSyntaxError("malformed key, table or value", 0); }

}  // namespace kernelhub

#pragma push_macro("NDEBUG")
#undef NDEBUG
#define TOML_MAX_NESTED_VALUES 16
#define TOML_ASSERT(holds) ((holds) ? static_cast<void>(0) : ::kernelhub::fail_toml())
#include <toml++/toml.h>
#pragma pop_macro("NDEBUG")

namespace kernelhub {

/// Refuses dotted keys that the library would turn into tables nested without bound, which end the
/// process when they are destroyed. Throws TomlSyntaxError.
KERNELHUB_API void require_shallow_keys(std::string_view text);

/// Values nested at most 16 deep (trust spec 5.1). Throws TomlSyntaxError. `origin` is what the
/// nodes name as their source.
inline toml::table parse_toml(std::string_view text, const std::string& origin) {
  require_shallow_keys(text);
  try {
    return toml::parse(text, origin);
  } catch (const toml::parse_error& error) {
    throw TomlSyntaxError(std::string(error.description()), error.source().begin.line);
  }
}

}  // namespace kernelhub

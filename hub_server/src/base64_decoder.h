// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::server {

/// Standard padded base64 in pieces (OpenSSL EVP), with memory bounded by the piece.
class Base64Decoder {
 public:
  Base64Decoder();
  ~Base64Decoder();
  /// Decoded bytes, valid until the next call. Throws kBadRequest for another alphabet.
  std::string_view update(std::string_view text);
  /// Rest of the bytes. Throws kBadRequest for a text cut short.
  std::string_view finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  std::vector<unsigned char> decoded_;
  std::uint64_t symbols_ = 0;
  std::uint64_t padding_ = 0;
};

}  // namespace kernelhub::server

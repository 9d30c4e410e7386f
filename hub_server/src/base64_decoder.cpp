// SPDX-License-Identifier: Apache-2.0
#include "base64_decoder.h"

#include "server_errors.h"

#include <openssl/evp.h>

#include <array>

namespace kernelhub::server {
namespace {

constexpr std::size_t kPieceBytes = 65536;  // EVP counts in int

[[noreturn]] void fail() { throw server_errors::bad_request("file content is not base64"); }

constexpr std::array<bool, 256> symbol_table() {
  std::array<bool, 256> table{};
  for (const char c :
       std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")) {
    table[static_cast<unsigned char>(c)] = true;
  }
  return table;
}
constexpr std::array<bool, 256> kIsSymbol = symbol_table();

}  // namespace

struct Base64Decoder::Context {
  struct Free {
    void operator()(EVP_ENCODE_CTX* context) const noexcept { EVP_ENCODE_CTX_free(context); }
  };
  std::unique_ptr<EVP_ENCODE_CTX, Free> evp{EVP_ENCODE_CTX_new()};
};

Base64Decoder::Base64Decoder() : context_(std::make_unique<Context>()) {
  EVP_DecodeInit(context_->evp.get());
}

Base64Decoder::~Base64Decoder() = default;

std::string_view Base64Decoder::update(std::string_view text) {
  // EVP takes '-' as an end mark and skips blanks; a Hub client sends neither.
  for (const char c : text) {
    const bool pads = c == '=';
    if (!pads && (!kIsSymbol[static_cast<unsigned char>(c)] || padding_ != 0)) fail();
    padding_ += pads ? 1 : 0;
  }
  symbols_ += text.size();
  decoded_.resize(text.size() + 64);
  std::size_t filled = 0;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, kPieceBytes);
    int count = 0;
    if (EVP_DecodeUpdate(context_->evp.get(), decoded_.data() + filled, &count,
                         reinterpret_cast<const unsigned char*>(piece.data()),
                         static_cast<int>(piece.size())) < 0) {
      fail();
    }
    filled += static_cast<std::size_t>(count);
    text.remove_prefix(piece.size());
  }
  return {reinterpret_cast<const char*>(decoded_.data()), filled};
}

std::string_view Base64Decoder::finish() {
  int count = 0;
  decoded_.resize(64);
  if (symbols_ % 4 != 0 || padding_ > 2 ||
      EVP_DecodeFinal(context_->evp.get(), decoded_.data(), &count) != 1) {
    fail();
  }
  return {reinterpret_cast<const char*>(decoded_.data()), static_cast<std::size_t>(count)};
}

}  // namespace kernelhub::server

// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/digest.h"

#include "kernelhub/core/core_errors.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <unistd.h>
#include <utility>

namespace kernelhub {
namespace {

struct AlgorithmRow {
  DigestAlgorithm algorithm;
  std::string_view name;
  std::size_t size_bytes;
  const EVP_MD* (*evp)();
};

constexpr std::array<AlgorithmRow, 3> kAlgorithms = {{
    {DigestAlgorithm::kSha1, "sha1", 20, EVP_sha1},
    {DigestAlgorithm::kSha256, "sha256", 32, EVP_sha256},
    {DigestAlgorithm::kSha512, "sha512", 64, EVP_sha512},
}};

const AlgorithmRow& row_of(DigestAlgorithm algorithm) {
  return kAlgorithms[static_cast<std::size_t>(algorithm)];
}

void require(int success, DigestAlgorithm algorithm) {
  if (success == 1) return;
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  throw core_errors::hash_unavailable(row_of(algorithm).name, text.data());
}

struct ContextDeleter {
  void operator()(EVP_MD_CTX* context) const noexcept { EVP_MD_CTX_free(context); }
};

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string_view digest_algorithm_name(DigestAlgorithm algorithm) noexcept {
  return row_of(algorithm).name;
}

DigestAlgorithm parse_digest_algorithm(std::string_view name) {
  for (const AlgorithmRow& row : kAlgorithms) {
    if (row.name == name) return row.algorithm;
  }
  throw core_errors::invalid_digest("digest algorithm", name, "sha1, sha256 or sha512");
}

std::string Digest::hex() const {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

std::string Digest::base64() const {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

Digest Digest::from_hex(DigestAlgorithm algorithm, std::string_view text) {
  const AlgorithmRow& row = row_of(algorithm);
  const auto fail = [&] {
    return core_errors::invalid_digest(fmt::format("{} digest", row.name), text,
                                       fmt::format("{} hex digits", 2 * row.size_bytes));
  };
  if (text.size() != 2 * row.size_bytes) throw fail();
  Digest digest{algorithm, {}};
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_value(text[i]);
    const int low = hex_value(text[i + 1]);
    if (high < 0 || low < 0) throw fail();
    digest.bytes.push_back(static_cast<std::uint8_t>(high * 16 + low));
  }
  return digest;
}

Digest Digest::from_base64(DigestAlgorithm algorithm, std::string_view text) {
  const AlgorithmRow& row = row_of(algorithm);
  Digest digest{algorithm, {}};
  if (text.size() == 4 * ((row.size_bytes + 2) / 3)) {
    digest.bytes.resize(text.size() / 4 * 3);
    const int decoded =
        EVP_DecodeBlock(digest.bytes.data(), reinterpret_cast<const unsigned char*>(text.data()),
                        static_cast<int>(text.size()));
    digest.bytes.resize(decoded < 0 ? 0 : row.size_bytes);
  }
  // Printing again refuses non-canonical spellings of the same bytes.
  if (digest.bytes.size() != row.size_bytes || digest.base64() != text) {
    throw core_errors::invalid_digest(fmt::format("{} digest", row.name), text,
                                      fmt::format("padded base64 of {} bytes", row.size_bytes));
  }
  return digest;
}

struct Hasher::State {
  DigestAlgorithm algorithm;
  std::unique_ptr<EVP_MD_CTX, ContextDeleter> context;
};

Hasher::Hasher(DigestAlgorithm algorithm)
    : state_(std::make_unique<State>(
          State{algorithm, std::unique_ptr<EVP_MD_CTX, ContextDeleter>(EVP_MD_CTX_new())})) {
  require(state_->context ? 1 : 0, algorithm);
  require(EVP_DigestInit_ex(state_->context.get(), row_of(algorithm).evp(), nullptr), algorithm);
}

Hasher Hasher::git_blob(std::uint64_t size_bytes) {
  Hasher hasher(DigestAlgorithm::kSha1);
  std::string header = fmt::format("blob {}", size_bytes);
  header.push_back('\0');
  hasher.update(header);
  return hasher;
}

Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::update(const void* data, std::size_t size_bytes) {
  require(EVP_DigestUpdate(state_->context.get(), data, size_bytes), state_->algorithm);
}

Digest Hasher::finish() {
  Digest digest{state_->algorithm, {}};
  digest.bytes.resize(row_of(state_->algorithm).size_bytes);
  require(EVP_DigestFinal_ex(state_->context.get(), digest.bytes.data(), nullptr),
          state_->algorithm);
  return digest;
}

Digest digest_of(DigestAlgorithm algorithm, std::string_view content) {
  Hasher hasher(algorithm);
  hasher.update(content);
  return hasher.finish();
}

Digest digest_of_fd(DigestAlgorithm algorithm, int fd) {
  Hasher hasher(algorithm);
  std::vector<char> block(256 * 1024);
  off_t offset = 0;
  while (true) {
    const ssize_t count = ::pread(fd, block.data(), block.size(), offset);
    if (count == 0) return hasher.finish();
    if (count < 0) {
      if (errno == EINTR) continue;
      throw core_errors::read_failed(fmt::format("file descriptor {}", fd), errno);
    }
    hasher.update(block.data(), static_cast<std::size_t>(count));
    offset += count;
  }
}

}  // namespace kernelhub

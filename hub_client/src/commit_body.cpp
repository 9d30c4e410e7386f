// SPDX-License-Identifier: Apache-2.0
#include "commit_body.h"

#include "hub_errors.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace kernelhub::hub {
namespace {

// A multiple of 3, so that only a file's last block is padded.
constexpr std::size_t kBlock = 3 * (64u << 10);

}  // namespace

std::string base64_encode(std::string_view bytes) {
  // EVP_EncodeBlock ends its output with NUL.
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

void ComposedBody::add_text(std::string text) {
  size_bytes_ += text.size();
  parts_.push_back({std::move(text), {}, 0, Encoding::kPlain});
}

void ComposedBody::add_file(std::filesystem::path source, std::uint64_t size_bytes,
                            Encoding encoding) {
  size_bytes_ += encoding == Encoding::kPlain ? size_bytes : 4 * ((size_bytes + 2) / 3);
  parts_.push_back({{}, std::move(source), size_bytes, encoding});
}

void ComposedBody::rewind() {
  part_ = 0;
  fd_.reset();
  read_bytes_ = 0;
  pending_.clear();
  pending_offset_ = 0;
  sent_bytes_ = 0;
}

std::string ComposedBody::next_block(const Part& part) {
  if (!fd_) fd_ = UniqueFd(open(part.source.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_) throw hub_errors::cache_io("open", part.source, errno);
  std::string block(std::min<std::uint64_t>(kBlock, part.source_bytes - read_bytes_), '\0');
  std::size_t filled = 0;
  while (filled < block.size()) {
    const ssize_t count = pread(fd_.get(), block.data() + filled, block.size() - filled,
                                static_cast<off_t>(read_bytes_ + filled));
    if (count < 0) throw hub_errors::cache_io("read", part.source, errno);
    if (count == 0) {
      throw hub_errors::source_changed(part.source, part.source_bytes, read_bytes_ + filled);
    }
    filled += static_cast<std::size_t>(count);
  }
  read_bytes_ += block.size();
  return part.encoding == Encoding::kBase64 ? base64_encode(block) : block;
}

bool ComposedBody::refill() {
  while (part_ < parts_.size()) {
    const Part& part = parts_[part_];
    const bool is_text = part.source.empty();
    pending_ = is_text                           ? part.text
               : read_bytes_ < part.source_bytes ? next_block(part)
                                                 : std::string();
    pending_offset_ = 0;
    if (is_text || read_bytes_ == part.source_bytes) {
      ++part_;
      fd_.reset();
      read_bytes_ = 0;
    }
    if (!pending_.empty()) return true;
  }
  return false;
}

std::size_t ComposedBody::read(char* buffer, std::size_t capacity) {
  if (pending_offset_ == pending_.size() && !refill()) return 0;
  const std::size_t count = std::min(capacity, pending_.size() - pending_offset_);
  std::memcpy(buffer, pending_.data() + pending_offset_, count);
  pending_offset_ += count;
  sent_bytes_ += count;
  if (progress_) progress_(sent_bytes_);
  return count;
}

}  // namespace kernelhub::hub

// SPDX-License-Identifier: Apache-2.0
#include "commit_stream.h"

#include "commit_paths.h"
#include "server_errors.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace kernelhub::server {
namespace {
constexpr std::size_t kMaxLineBytes = 1u << 20;  // without inline content
constexpr std::size_t kMaxChanges = 100'000;
constexpr std::string_view kContentKey = "content";
constexpr int kContentDepth = 2;  // {"key": ..., "value": {"content": ...}}
}  // namespace

void CommitStream::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (content_) {
      bytes = take_content(bytes);
      continue;
    }
    const char c = bytes.front();
    bytes.remove_prefix(1);
    if (c == '\n') {
      end_line();
      continue;
    }
    if (line_.size() >= kMaxLineBytes) throw server_errors::body_too_large(kMaxLineBytes);
    line_ += c;
    if (in_string_) {
      take_string(c);
    } else {
      take_structure(c);
    }
  }
}

void CommitStream::take_string(char c) {
  if (escaped_) {
    escaped_ = false;
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    in_string_ = false;
    return;
  }
  if (last_string_.size() <= kContentKey.size()) last_string_ += c;
}

void CommitStream::take_structure(char c) {
  if (c == ' ' || c == '\t' || c == '\r') return;
  const bool starts_content = content_next_ && c == '"';
  content_next_ = false;
  if (starts_content) {
    if (object_) throw server_errors::bad_request("two contents in one commit line");
    content_.emplace(objects_->writer());
  } else if (c == '"') {
    in_string_ = true;
    last_string_.clear();
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    --depth_;
  } else if (c == ':') {
    content_next_ = depth_ == kContentDepth && last_string_ == kContentKey;
  }
}

std::string_view CommitStream::take_content(std::string_view bytes) {
  if (content_->escaped) {
    // "\/" is the one escape a JSON writer may use for a base64 symbol.
    if (bytes.front() != '/') throw server_errors::bad_request("file content is not base64");
    content_->writer.write(content_->decoder.update("/"));
    content_->escaped = false;
    return bytes.substr(1);
  }
  // A line end or anything else that does not belong here is no base64 and fails in the decoder.
  const std::size_t quote = std::min(bytes.find('"'), bytes.size());
  const std::size_t end = std::min(bytes.substr(0, quote).find('\\'), quote);
  content_->writer.write(content_->decoder.update(bytes.substr(0, end)));
  if (end == bytes.size()) return {};
  if (bytes[end] == '\\') {
    content_->escaped = true;
  } else {
    content_->writer.write(content_->decoder.finish());
    object_ = content_->writer.finish();
    content_.reset();
    line_ += '"';
  }
  return bytes.substr(end + 1);
}

void CommitStream::end_line() {
  if (line_.find_first_not_of(" \t\r") != std::string::npos) {
    const CommitLine line = parse_commit_line(line_, fmt::format("commit line {}", line_number_));
    if (line.key == "header") {
      if (has_header_) throw server_errors::bad_request("commit has two headers");
      has_header_ = true;
      request_.title = line.summary;
      request_.description = line.description;
      request_.parent = line.parent;
    } else {
      if (!has_header_) throw server_errors::bad_request("the first commit line is not the header");
      add_change(line);
    }
  }
  ++line_number_;
  line_.clear();
  last_string_.clear();
  object_.reset();
  depth_ = 0;
  in_string_ = escaped_ = content_next_ = false;
}

void CommitStream::add_change(const CommitLine& line) {
  using Kind = CommitChange::Kind;
  if (request_.changes.size() >= kMaxChanges) {
    throw server_errors::too_many_items("changes", kMaxChanges + 1, kMaxChanges);
  }
  if (line.key == "deletedFile") {
    request_.changes.push_back({Kind::kDeleteFile, commit_path(line.path), {}});
    return;
  }
  if (line.key == "deletedFolder") {
    request_.changes.push_back({Kind::kDeleteFolder, commit_folder(line.path), {}});
    return;
  }
  const std::string path = commit_path(line.path);
  if (!written_paths_.insert(path).second) {
    throw server_errors::bad_request(fmt::format("{} is written twice in one commit", path));
  }
  if (line.key == "file") {
    if (line.encoding != "base64" || line.has_undecoded_content || !object_) {
      throw server_errors::bad_request(
          fmt::format("content of {} is not a base64 string under its plain key", path));
    }
  } else {
    const Digest sha256 = Digest::from_hex(DigestAlgorithm::kSha256, line.oid);
    object_ = objects_->find(sha256);
    if (!object_) throw server_errors::object_missing(path, sha256);
    if (line.size_bytes && *line.size_bytes != object_->size_bytes) {
      throw server_errors::object_mismatch(sha256, *line.size_bytes, sha256, object_->size_bytes);
    }
  }
  request_.changes.push_back({Kind::kPutFile, path, object_});
}

CommitRequest CommitStream::finish() {
  if (content_) throw server_errors::bad_request("commit body ends inside a content");
  end_line();
  if (!has_header_) throw server_errors::bad_request("commit body has no header line");
  return std::move(request_);
}

}  // namespace kernelhub::server

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base64_decoder.h"
#include "repo_store.h"

#include "kernelhub/server/object_store.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

namespace kernelhub::server {

/// One line of a commit body without its inline content.
struct CommitLine {
  std::string key;                           // header, file, lfsFile, deletedFile, deletedFolder
  std::string summary, description, parent;  // header
  std::string path;
  std::string encoding;                     // file
  std::string oid;                          // lfsFile
  std::optional<std::uint64_t> size_bytes;  // lfsFile
  bool has_undecoded_content = false;       // a `content` the stream could not divert
};
/// Throws kInvalidJson, kBadRequest naming line and field.
CommitLine parse_commit_line(std::string_view text, const std::string& origin);

/// Reads an application/x-ndjson commit body (hub spec 3, W9) as it arrives. The base64 text of
/// `value.content` goes straight into the object store, so that a line of any length takes
/// bounded memory; what is left of the line is parsed as JSON.
class CommitStream {
 public:
  explicit CommitStream(const ObjectStore& objects) : objects_(&objects) {}
  /// Throws kBadRequest, kInvalidJson, kDiskFull.
  void feed(std::string_view bytes);
  /// The whole commit; the author is left empty.
  CommitRequest finish();

 private:
  struct Content {
    explicit Content(ObjectStore::Writer object_writer) : writer(std::move(object_writer)) {}
    ObjectStore::Writer writer;
    Base64Decoder decoder;
    bool escaped = false;
  };
  void take_structure(char c);
  void take_string(char c);
  std::string_view take_content(std::string_view bytes);
  void end_line();
  void add_change(const CommitLine& line);

  const ObjectStore* objects_;
  CommitRequest request_;
  bool has_header_ = false;
  std::uint64_t line_number_ = 1;
  std::string line_;         // text of the line without inline content
  std::string last_string_;  // most recent short string, to know the key at a ':'
  int depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  bool content_next_ = false;           // the next value is value.content
  std::optional<Content> content_;      // while inside that string
  std::optional<StoredObject> object_;  // content of this line, complete
  std::set<std::string> written_paths_;
};

}  // namespace kernelhub::server

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "repo_types.h"

#include "kernelhub/server/object_store.h"

#include <string>
#include <string_view>

/// Text forms of the store's files (docs/formats/store.md). Readers throw kStoreCorrupt naming
/// `origin`.
namespace kernelhub::server {

std::string object_to_json(const StoredObject& object);
StoredObject object_from_json(std::string_view bytes, const std::string& origin);

std::string repo_to_json(const RepoInfo& repo);
RepoInfo repo_from_json(std::string_view bytes, const std::string& origin);

std::string commit_to_json(const Commit& commit);
Commit commit_from_json(std::string_view bytes, const std::string& origin);

std::string tree_to_json(const Tree& tree);
Tree tree_from_json(std::string_view bytes, const std::string& origin);

}  // namespace kernelhub::server

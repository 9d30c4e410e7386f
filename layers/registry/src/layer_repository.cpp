// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/layers/layer_repository.h"

#include <utility>

namespace kernelhub {

LayerRepository LayerRepository::hub(std::string_view repo, std::string layer, KernelSpec spec,
                                     LayerRepositoryOptions options) {
  spec.validate();
  return {Hub{RepoId::parse(repo), std::move(spec)}, std::move(layer), std::move(options)};
}

LayerRepository LayerRepository::local(std::filesystem::path path, std::string layer,
                                       LayerRepositoryOptions options) {
  return {Local{std::move(path)}, std::move(layer), std::move(options)};
}

LayerRepository LayerRepository::locked(std::string_view repo, std::string layer,
                                        std::filesystem::path lockfile,
                                        LayerRepositoryOptions options) {
  return {Locked{RepoId::parse(repo), std::move(lockfile)}, std::move(layer), std::move(options)};
}

std::string LayerRepository::package_str() const {
  if (const Hub* source = std::get_if<Hub>(&source_)) {
    return source->repo.str() + "@" + source->spec.str();
  }
  if (const Locked* source = std::get_if<Locked>(&source_)) {
    return source->repo.str() + "@" + source->lockfile.string();
  }
  return std::get<Local>(source_).path.string();
}

}  // namespace kernelhub

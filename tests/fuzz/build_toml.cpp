// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/build_toml.h"

#include "oracle.h"

using namespace kernelhub;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder;
  folder.write("build.toml", fuzz::text_of(data, size));
  fuzz::accepts([&] {
    const builder::ParsedBuildToml parsed = builder::read_build_toml(folder.path());
    fuzz::require(!parsed.project.name.empty(), "an accepted project has a name");
  });
  return 0;
}

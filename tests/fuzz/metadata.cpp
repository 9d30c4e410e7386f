// SPDX-License-Identifier: Apache-2.0
// metadata.json: what is accepted is accepted again as it is printed, and prints the same.
#include "kernelhub/core/metadata.h"

#include "oracle.h"

using namespace kernelhub;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::accepts([&] {
    const std::string printed = Metadata::parse(fuzz::text_of(data, size), "fuzzed").to_json();
    std::string again;
    const bool accepted =
        fuzz::accepts([&] { again = Metadata::parse(printed, "printed").to_json(); });
    fuzz::require(accepted, "a printed metadata.json is accepted");
    fuzz::require(again == printed, "printing is canonical");
  });
  return 0;
}

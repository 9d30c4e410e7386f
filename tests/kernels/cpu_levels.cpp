// SPDX-License-Identifier: Apache-2.0
// Prints the level that is chosen for given facts, this CPU's facts, or the answer to a request for
// tiles.
#include <cstdio>

#include "flash_attention_cpu/tile_permission.h"
#include "primitives/cpu_dispatch.h"

namespace {

using namespace kernelhub::primitives;

int requests = 0;
int refusal = 0;

int request() {
  ++requests;
  return refusal;
}

const char* name_of(CpuLevel level) {
  switch (level) {
    case CpuLevel::kScalar:
      return "scalar";
    case CpuLevel::kAvx2:
      return "avx2";
    case CpuLevel::kAvx512:
      return "avx512";
    case CpuLevel::kAvx512Bf16:
      return "avx512_bf16";
    case CpuLevel::kAmx:
      return "amx";
  }
  return "none";
}

void print_this_cpu() {
  const CpuFacts facts = cpu_facts(nullptr);
  std::printf("%s%s%s%s%s%s\n", facts.has_avx2 ? "avx2," : "", facts.has_avx512 ? "avx512," : "",
              facts.has_avx512_bf16 ? "avx512_bf16," : "",
              facts.has_fast_avx512_bf16 ? "fast_bf16," : "", facts.has_amx ? "amx," : "",
              facts.os_switches_tiles ? "tiles," : "");
}

}  // namespace

/// "this", "request", or: facts with commas, the errno of a request or "none", the asked level.
int main(int count, char** arguments) {
  const std::string words = "," + std::string(arguments[1]) + ",";
  if (words == ",this,") {
    print_this_cpu();
    return 0;
  }
  if (words == ",request,") {
    std::printf("%d\n", kernelhub::flash_attention::cpu::request_tiles());
    return 0;
  }
  if (count != 4) return 1;
  const auto has = [&words](const char* fact) {
    return words.find("," + std::string(fact) + ",") != std::string::npos;
  };
  const bool is_asked = std::string(arguments[2]) != "none";
  refusal = is_asked ? std::atoi(arguments[2]) : 0;
  const CpuFacts facts{has("avx2"), has("avx512"), has("avx512_bf16"),           has("fast_bf16"),
                       has("amx"),  has("tiles"),  is_asked ? &request : nullptr};
  try {
    const CpuLevel level = choose_cpu_level("test", facts, arguments[3]);
    std::printf("%s, %d requests\n", name_of(level), requests);
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
  }
  return 0;
}

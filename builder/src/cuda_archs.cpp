// SPDX-License-Identifier: Apache-2.0
#include "cuda_archs.h"

#include <algorithm>
#include <charconv>

namespace kernelhub::builder {
namespace {

std::vector<CudaArch> parse_all(std::initializer_list<std::string_view> texts) {
  std::vector<CudaArch> archs;
  for (std::string_view text : texts) archs.push_back(*CudaArch::parse(text));
  return archs;
}

bool less(const CudaArch& a, const CudaArch& b) {
  if (a.capability != b.capability) return a.capability < b.capability;
  return a.suffix != b.suffix ? a.suffix < b.suffix : a.ptx < b.ptx;
}

/// Highest plain capability of `wanted` not above `target`; another major only with +PTX.
const CudaArch* best_for(const CudaArch& target, const std::vector<CudaArch>& wanted) {
  const CudaArch* best = nullptr;
  for (const CudaArch& arch : wanted) {
    if (arch.suffix != 0 || target.capability < arch.capability) continue;
    if (arch.capability.major != target.capability.major && !arch.ptx) continue;
    if (!best || best->capability < arch.capability) best = &arch;
  }
  return best;
}

}  // namespace

std::optional<CudaArch> CudaArch::parse(std::string_view text) {
  CudaArch arch;
  constexpr std::string_view kPtx = "+PTX";
  if (text.size() > kPtx.size() && text.substr(text.size() - kPtx.size()) == kPtx) {
    arch.ptx = true;
    text.remove_suffix(kPtx.size());
  }
  if (!text.empty() && (text.back() == 'a' || text.back() == 'f')) {
    arch.suffix = text.back();
    text.remove_suffix(1);
  }
  const char* end = text.data() + text.size();
  const auto [dot, major_error] = std::from_chars(text.data(), end, arch.capability.major);
  if (major_error != std::errc() || dot == end || *dot != '.') return std::nullopt;
  const auto [rest, minor_error] = std::from_chars(dot + 1, end, arch.capability.minor);
  if (minor_error != std::errc() || rest != end) return std::nullopt;
  if (arch.capability.major < 1 || arch.capability.minor < 0 || arch.capability.minor > 9) {
    return std::nullopt;
  }
  return arch;
}

std::string CudaArch::str() const {
  std::string text = capability.str();
  if (suffix != 0) text += suffix;
  return ptx ? text + "+PTX" : text;
}

std::string CudaArch::digits() const {
  std::string text = std::to_string(capability.major) + std::to_string(capability.minor);
  if (suffix != 0) text += suffix;
  return text;
}

std::vector<CudaArch> supported_cuda_archs(MajorMinor toolkit) {
  if (!(toolkit < MajorMinor{13, 0})) {
    return parse_all(
        {"7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "11.0", "12.0", "12.1+PTX"});
  }
  if (!(toolkit < MajorMinor{12, 8})) {
    return parse_all(
        {"7.0", "7.2", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.1", "12.0+PTX"});
  }
  return parse_all({"7.0", "7.2", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0+PTX"});
}

std::vector<CudaArch> select_cuda_archs(MajorMinor toolkit,
                                        const std::vector<std::string>& wanted) {
  std::vector<CudaArch> targets = supported_cuda_archs(toolkit);
  if (wanted.empty()) return targets;
  std::vector<CudaArch> sources;
  for (const std::string& text : wanted) {
    if (const std::optional<CudaArch> arch = CudaArch::parse(text)) sources.push_back(*arch);
  }
  std::vector<CudaArch> chosen;
  for (const CudaArch& source : sources) {
    if (source.suffix == 0) continue;
    const auto target = std::find_if(targets.begin(), targets.end(), [&](const CudaArch& arch) {
      return arch.capability == source.capability;
    });
    if (target == targets.end()) continue;
    chosen.push_back(source);
    targets.erase(target);
  }
  for (const CudaArch& target : targets) {
    if (const CudaArch* best = best_for(target, sources)) chosen.push_back(*best);
  }
  std::sort(chosen.begin(), chosen.end(), less);
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

}  // namespace kernelhub::builder

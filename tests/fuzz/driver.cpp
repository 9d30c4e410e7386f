// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer: every file of the corpus, then seeded mutations of them.
//   kernelhub_fuzz_<target> [--mutations N] <file or folder>...
// The same N gives the same inputs. An input that ends the process is left in ./crash-input.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kMaxBytes = 64 << 10;

void run(const Bytes& input) {
  // Removed at the end: it stays only when this input ends the process.
  std::ofstream("crash-input", std::ios::binary)
      .write(reinterpret_cast<const char*>(input.data()),
             static_cast<std::streamsize>(input.size()));
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

class Mutator {
 public:
  explicit Mutator(const std::vector<Bytes>& seeds) : seeds_(seeds) {}

  Bytes next() {
    Bytes input = seeds_[below(seeds_.size())];
    for (std::size_t steps = 1 + below(4); steps > 0; --steps) change(input);
    if (input.size() > kMaxBytes) input.resize(kMaxBytes);
    return input;
  }

 private:
  std::size_t below(std::size_t limit) {
    return limit == 0 ? 0 : std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_);
  }

  void change(Bytes& input) {
    const std::size_t at = below(input.size());
    switch (below(6)) {
      case 0:
        if (!input.empty()) input[at] ^= static_cast<std::uint8_t>(1u << below(8));
        break;
      case 1:
        if (!input.empty()) input[at] = kTelling[below(std::size(kTelling))];
        break;
      case 2:
        input.resize(at);
        break;
      case 3:  // a stretch twice
        insert(input, at, input, at, below(32));
        break;
      case 4: {  // a stretch of another seed
        const Bytes& other = seeds_[below(seeds_.size())];
        insert(input, at, other, below(other.size()), below(64));
        break;
      }
      default: {
        const std::size_t count = std::min(below(16), input.size() - at);
        input.erase(input.begin() + static_cast<std::ptrdiff_t>(at),
                    input.begin() + static_cast<std::ptrdiff_t>(at + count));
      }
    }
  }

  static void insert(Bytes& input, std::size_t at, const Bytes& from, std::size_t begin,
                     std::size_t count) {
    const auto first = from.begin() + static_cast<std::ptrdiff_t>(begin);
    const Bytes piece(first,
                      first + static_cast<std::ptrdiff_t>(std::min(count, from.size() - begin)));
    input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
  }

  static constexpr std::uint8_t kTelling[] = {0,   1,   '"', '\\', '/', '.', '{', '}', '[', ']',
                                              ',', ':', '-', '\n', ' ', '9', 127, 128, 255};
  const std::vector<Bytes>& seeds_;
  std::mt19937_64 random_{20};
};

std::vector<Bytes> read_seeds(const std::vector<fs::path>& places) {
  std::vector<fs::path> files;
  for (const fs::path& place : places) {
    if (fs::is_regular_file(place)) {
      files.push_back(place);
      continue;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(place)) files.push_back(entry);
  }
  std::sort(files.begin(), files.end());
  std::vector<Bytes> seeds;
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return seeds;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t mutations = 0;
  std::vector<fs::path> places;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--mutations" && i + 1 < argc) {
      mutations = std::stoull(argv[++i]);
    } else {
      places.emplace_back(argument);
    }
  }
  const std::vector<Bytes> seeds = read_seeds(places);
  if (seeds.empty()) {
    std::fputs("no corpus: name a file, or a folder with at least one\n", stderr);
    return 2;
  }
  run({});
  for (const Bytes& seed : seeds) run(seed);
  Mutator mutator(seeds);
  for (std::uint64_t i = 0; i < mutations; ++i) run(mutator.next());
  fs::remove("crash-input");
  std::printf("%zu seeds and %llu mutations\n", seeds.size(),
              static_cast<unsigned long long>(mutations));
  return 0;
}

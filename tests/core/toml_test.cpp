// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/core/toml.h"

#include <gtest/gtest.h>

#include <string>

namespace kernelhub {
namespace {

std::uint32_t refused_line(const std::string& text) {
  try {
    parse_toml(text, "test");
  } catch (const TomlSyntaxError& error) {
    return error.line;
  }
  ADD_FAILURE() << "accepted: " << text.substr(0, 60);
  return 0;
}

TEST(ParseToml, RefusesWhatTheLibraryAnswersWithAnAssertion) {
  EXPECT_EQ(refused_line("[[[\nname = 1\n"), 0U);  // ended the process; found by fuzzing
}

TEST(ParseToml, RefusesKeysOfUnboundedDepth) {
  std::string dots;
  for (int i = 0; i < 300'000; ++i) dots += "a.";
  EXPECT_EQ(refused_line("x = 1\n" + dots + "a = 1\n"), 2U);
  EXPECT_EQ(refused_line("x = {" + dots + "a = 1}\n"), 1U);
  EXPECT_EQ(refused_line("[" + dots + "a]\n"), 1U);
  EXPECT_EQ(refused_line("'''\n\n'''" + std::string(40, '.') + "\n"), 3U);
  EXPECT_EQ(refused_line("x = " + std::string(40, '[') + std::string(40, ']') + "\n"), 1U);
}

TEST(ParseToml, CountsNoDotsOfStringsCommentsAndOtherKeys) {
  const std::string dots(40, '.');
  const toml::table table = parse_toml("a = \"\\\"" + dots + "\" # " + dots + "\nb = '" + dots +
                                           "'\nc = '''\n" + dots + "'''\nd.e.f = [1.5, 2.5]\n",
                                       "test");
  EXPECT_EQ(table["b"].value<std::string>(), dots);
  EXPECT_EQ(table["d"]["e"]["f"][1].value<double>(), 2.5);
}

}  // namespace
}  // namespace kernelhub

// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include "builder_errors.h"
#include "child_process.h"

#include "kernelhub/core/atomic_file.h"

#include <fmt/format.h>

#include <sstream>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

void append(Arguments& arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
}

std::string run(const VariantPlan& plan, const Arguments& arguments, const fs::path& stage) {
  ProcessResult result = run_process(arguments, stage, stage / "obj" / "link.log");
  if (result.exit_code != 0) throw builder_errors::link_failed(plan.variant, result.output);
  return result.output;
}

/// Names of the weak functions that an object defines, one per line. `nm` output: name type ...
std::string weak_functions(const std::string& symbols) {
  std::istringstream lines(symbols);
  std::string line, names, name, type;
  while (std::getline(lines, line)) {
    if (std::istringstream(line) >> name >> type && type == "W") names += name + "\n";
  }
  return names;
}

std::string join_isa_group(const VariantPlan& plan, const Toolchain& tools,
                           const ObjectGroup& group, const fs::path& stage) {
  const std::string joined = fmt::format("obj/{}.joined.o", group.name);
  Arguments link{
      tools.cxx.string(), "-r", "-nostdlib", "-Wl,--force-group-allocation", "-o", joined};
  append(link, group.objects);
  run(plan, link, stage);
  const std::string names =
      weak_functions(run(plan, {"nm", "--defined-only", "-f", "posix", joined}, stage));
  if (names.empty()) return joined;
  const std::string list = fmt::format("obj/{}.local", group.name);
  write_file_atomically(stage / list, names);
  run(plan, {"objcopy", "--localize-symbols=" + list, joined}, stage);
  return joined;
}

/// Archive members are linked only where something needs them.
std::string shim_archive(const VariantPlan& plan, const Toolchain& tools, const fs::path& stage) {
  Arguments archive{"ar", "rcD", "obj/libshim.a"};
  for (const char* source : {"single_threaded.c", "bad_array.cpp", "string_stream.cpp"}) {
    const std::string object = fmt::format("obj/{}.o", source);
    const bool cxx = fs::path(source).extension() == ".cpp";
    run(plan,
        {(cxx ? tools.cxx : tools.cc).string(), "-O2", "-fPIC", "-fvisibility=hidden", "-c",
         fmt::format("gen/{}", source), "-o", object},
        stage);
    archive.push_back(object);
  }
  run(plan, archive, stage);
  return "obj/libshim.a";
}

Arguments libraries(const VariantPlan& plan, const Toolchain& tools,
                    const CompileCommands& commands) {
  Arguments flags;
  const bool cuda = plan.backend == BackendKind::kCuda;
  if (plan.is_torch()) {
    const fs::path folder = tools.torch->prefix / "lib";
    append(flags, {"-L" + folder.string(), "-Wl,-rpath-link," + folder.string()});
    if (cuda) append(flags, {"-Wl,--no-as-needed", "-ltorch", "-Wl,--as-needed"});
    flags.push_back("-ltorch_cpu");
    if (plan.framework == FrameworkKind::kTorch) flags.push_back("-lc10");
    if (cuda) append(flags, {"-ltorch_cuda", "-lc10_cuda"});
  } else if (tools.tvm_ffi) {
    append(flags, {"-L" + (tools.tvm_ffi->prefix / "lib").string(), "-ltvm_ffi"});
  }
  if (cuda) append(flags, {"-L" + (tools.nvcc->home / "lib64").string(), "-lcudart"});
  if (commands.openmp) {
    const fs::path own = tools.torch ? tools.torch->prefix / "lib" / "libgomp.so.1" : fs::path();
    flags.push_back(plan.is_torch() && fs::exists(own) ? own.string() : "-lgomp");
  }
  append(flags, commands.libraries);
  return flags;
}

}  // namespace

void link_variant(const VariantPlan& plan, const Toolchain& tools, const CompileCommands& commands,
                  const fs::path& stage) {
  Arguments link{tools.cxx.string(), "-shared", "-o", "out/" + plan.binary()};
  append(link, {"-Wl,--version-script=gen/exports.map", "-Wl,-z,relro,-z,now,-z,noexecstack",
                "-Wl,-z,defs", "-Wl,--build-id=sha1", "-Wl,--strip-debug", "-Wl,--as-needed"});
  for (const ObjectGroup& group : commands.groups) {
    if (group.objects.empty()) continue;
    if (group.isa_level == 0)
      append(link, group.objects);
    else
      link.push_back(join_isa_group(plan, tools, group, stage));
  }
  link.push_back(shim_archive(plan, tools, stage));
  append(link, libraries(plan, tools, commands));
  run(plan, link, stage);
}

}  // namespace kernelhub::builder

// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/builder/card.h"

#include "builder_errors.h"
#include "child_process.h"

#include "kernelhub/core/atomic_file.h"

#include <string>

namespace kernelhub::builder {
namespace {

namespace fs = std::filesystem;

/// Exit code by which the script says that jinja2 is missing.
constexpr int kNoJinja = 77;

constexpr const char* kRenderScript = R"(
import ast, pathlib, sys
try:
    import jinja2
except ImportError:
    sys.exit(77)
facts = dict(argument.split('=', 1) for argument in sys.argv[1:])
package = pathlib.Path(facts['package'])

def classes(path):
    if not path.exists():
        return []
    return [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)]

names = []
for node in ast.parse((package / '__init__.py').read_text()).body:
    if isinstance(node, ast.Assign) and [getattr(t, 'id', '') for t in node.targets] == ['__all__']:
        names = [e.value for e in node.value.elts if isinstance(e, ast.Constant)]
layers = []
if 'layers' in names:
    layers = classes(package / 'layers.py') + classes(package / 'layers' / '__init__.py')
environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
text = environment.from_string(pathlib.Path(facts['template']).read_text()).render(
    repo_id=facts['repo_id'], version=int(facts['version']),
    functions=[n for n in names if n != 'layers'], layers=layers,
    has_benchmark=facts['has_benchmark'] == '1', upstream=facts['upstream'],
    source=facts['source'], license=facts['license'])
sys.stdout.write(text)
)";

fs::path package_folder(const BuildToml& project) {
  const char* extension = project.torch || project.noarch ? "torch-ext" : "tvm-ffi-ext";
  return project.directory / extension / python_name(project.name);
}

bool has_benchmark(const BuildToml& project) {
  const fs::path folder = project.directory / "benchmarks";
  if (!fs::is_directory(folder)) return false;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("benchmark", 0) == 0 && entry.path().extension() == ".py") return true;
  }
  return false;
}

}  // namespace

bool write_card(const BuildToml& project, const Toolchain& tools) {
  const fs::path card = project.directory / "CARD.md";
  if (!fs::exists(card)) return true;
  if (tools.python.empty()) return false;
  const ProcessResult result =
      run_process({tools.python.string(), "-c", kRenderScript, "template=" + card.string(),
                   "package=" + package_folder(project).string(),
                   "repo_id=" + (project.hub_repo ? project.hub_repo->str() : std::string()),
                   "version=" + std::to_string(project.version),
                   std::string("has_benchmark=") + (has_benchmark(project) ? "1" : "0"),
                   "upstream=" + project.upstream.value_or(""),
                   "source=" + project.source.value_or(""), "license=" + project.license});
  if (result.exit_code == kNoJinja) return false;
  if (result.exit_code != 0) {
    throw builder_errors::tool_failed("rendering " + card.string(), result.output);
  }
  write_file_atomically(project.directory / "build" / "CARD.md", result.output);
  return true;
}

}  // namespace kernelhub::builder

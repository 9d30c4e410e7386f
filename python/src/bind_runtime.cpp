// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"
#include "interruptible.h"

#include "kernelhub/get_kernel.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;

namespace kernelhub::python {
namespace {

using Version = std::optional<std::int64_t>;
using Revision = std::optional<std::string>;
using Verified = trust::VerifiedPackage;

// The binding's own copy of the options, so that the stop request can be added.
LoadOptions with_progress(LoadOptions options, ProgressObserver* progress) {
  options.progress = progress;
  return options;
}

Verified get_verified(const std::string& repo, const Version& version, const Revision& revision,
                      const LoadOptions& options) {
  return run_interruptible([&](ProgressObserver* progress) {
    return get_verified_package(repo, {version, revision}, with_progress(options, progress),
                                nullptr);
  });
}

Verified get_verified_local(const std::string& path, const LoadOptions& options) {
  return run_interruptible([&](ProgressObserver* progress) {
    return get_verified_local_package(path, with_progress(options, progress), nullptr);
  });
}

bool has(const std::string& repo, const Version& version, const Revision& revision,
         const LoadOptions& options) {
  return run_interruptible([&](ProgressObserver* progress) {
    return has_kernel(repo, {version, revision}, with_progress(options, progress));
  });
}

std::string install(const std::string& repo, const Version& version, const Revision& revision,
                    const LoadOptions& options) {
  return run_interruptible([&](ProgressObserver* progress) {
    return install_kernel(repo, {version, revision}, with_progress(options, progress))
        .directory.string();
  });
}

std::vector<VariantDecision> variants(const std::string& repo, const Version& version,
                                      const Revision& revision, const LoadOptions& options) {
  return run_interruptible([&](ProgressObserver* progress) {
    return get_kernel_variants(repo, {version, revision}, with_progress(options, progress));
  });
}

void set_metadata_check(LoadOptions& options, const std::function<void(std::string)>& check) {
  options.check_metadata = [check](const Metadata& metadata) {
    const py::gil_scoped_acquire gil;
    check(metadata.to_json());
  };
}

void bind_options(py::module_& module) {
  py::class_<LoadOptions>(module, "LoadOptions", "How to resolve and load; one object per call.")
      .def(py::init<>())
      .def_readwrite("backend", &LoadOptions::backend, "cpu, the detected backend, or None.")
      .def_readwrite("check_arch", &LoadOptions::check_arch,
                     "Compare the devices of this machine with the archs of the package.")
      .def_readwrite("local_files_only", &LoadOptions::local_files_only, "Use the cache only.")
      .def(
          "trust_all", [](LoadOptions& options) { options.trust_remote_code.all = true; },
          "trust_remote_code for every repository.")
      .def(
          "trust_repos",
          [](LoadOptions& options, std::vector<std::string> repos) {
            options.trust_remote_code.repos = std::move(repos);
          },
          "repos"_a, "trust_remote_code for these repository ids.")
      .def(
          "set_config", [](LoadOptions& options, const Config& config) { options.config = config; },
          "config"_a, "Settings instead of those of the environment.")
      .def(
          "set_system",
          [](LoadOptions& options, const SystemInfo& system) { options.system = system; },
          "system"_a, "Facts to resolve for instead of the probed ones.")
      .def("set_metadata_check", &set_metadata_check, "check"_a,
           "Called with metadata.json before any other file is fetched; raises to refuse.");
}

}  // namespace

void bind_runtime(py::module_& module) {
  bind_options(module);
  module.def("get_verified_package", &get_verified, "repo_id"_a, "version"_a, "revision"_a,
             "options"_a, "Resolves, fetches and verifies a kernel of the hub.");
  module.def("get_verified_local_package", &get_verified_local, "path"_a, "options"_a,
             "Verifies a kernel in a local directory.");
  module.def("has_kernel", &has, "repo_id"_a, "version"_a, "revision"_a, "options"_a,
             "Whether a build fits; fetches metadata only.");
  module.def("install_kernel", &install, "repo_id"_a, "version"_a, "revision"_a, "options"_a,
             "Fetches and verifies a kernel; the variant directory.");
  module.def("get_kernel_variants", &variants, "repo_id"_a, "version"_a, "revision"_a, "options"_a,
             "Decisions for all variants, best first.");
  module.def("audit_load", &audit_load, "package"_a, "load_mode"_a, "milliseconds"_a, "options"_a,
             py::call_guard<py::gil_scoped_release>(),
             "Appends the audit line of a package that Python executed.");
}

}  // namespace kernelhub::python

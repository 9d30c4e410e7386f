// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"

#include "kernelhub/core/config.h"
#include "kernelhub/core/error.h"
#include "kernelhub/core/log.h"
#include "kernelhub/core/metadata.h"
#include "kernelhub/core/system_info.h"
#include "kernelhub/core/variant.h"
#include "kernelhub/loader/system.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;

namespace kernelhub::python {
namespace {

std::optional<std::string> version_text(const std::optional<MajorMinor>& version) {
  return version ? std::optional(version->str()) : std::nullopt;
}

std::optional<MajorMinor> version_of(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  const auto version = parse_major_minor(*text);
  if (!version) throw py::value_error("not a version: " + *text);
  return version;
}

void set_backend(SystemInfo& system, const std::string& compute_name) {
  const auto backend = Backend::parse_compute_name(compute_name);
  if (!backend) throw py::value_error("not a backend: " + compute_name);
  system.backend = *backend;
}

void bind_config(py::module_& module) {
  py::class_<Config>(module, "Config", "Settings of one call, taken from the environment.")
      .def_static("from_env", &Config::from_env, "Reads the environment and the token file.")
      .def_readwrite("endpoint", &Config::endpoint, "URL of the hub, without a trailing slash.")
      .def(
          "set_cache_dir",
          [](Config& config, const std::string& folder) { config.cache_dir = folder; }, "folder"_a,
          "Root of the shared cache.")
      .def_readwrite("offline", &Config::offline, "Use the cache only.")
      .def_readwrite("user_agent", &Config::user_agent,
                     "Facts of the caller for the User-Agent header.")
      .def(
          "set_token",
          [](Config& config, std::string token) {
            config.token = Secret(std::move(token), "argument");
          },
          "token"_a, "Uses this access token instead of the one that was found.")
      .def_readonly("telemetry", &Config::telemetry, "Facts may be sent in the User-Agent header.");
}

void bind_system(py::module_& module) {
  py::class_<SystemInfo>(module, "SystemInfo", "Facts that decide which variant fits.")
      .def_property_readonly(
          "backend", [](const SystemInfo& system) { return system.backend.compute_name(); },
          "Compute part of a variant name, e.g. cu130.")
      .def("set_backend", &set_backend, "compute_name"_a, "Sets the backend, e.g. cpu or cu130.")
      .def_property(
          "torch", [](const SystemInfo& system) { return version_text(system.torch); },
          [](SystemInfo& system, const std::optional<std::string>& text) {
            system.torch = version_of(text);
          },
          "major.minor of torch, or None.")
      .def_property(
          "tvm_ffi", [](const SystemInfo& system) { return version_text(system.tvm_ffi); },
          [](SystemInfo& system, const std::optional<std::string>& text) {
            system.tvm_ffi = version_of(text);
          },
          "major.minor of tvm-ffi, or None.")
      .def_readwrite("torch_cxx11_abi", &SystemInfo::torch_cxx11_abi,
                     "C++11 ABI flag of torch, None when unknown.")
      .def_readonly("cpu", &SystemInfo::cpu, "x86_64 or aarch64.")
      .def_readonly("os", &SystemInfo::os, "linux.")
      .def_readonly("glibc", &SystemInfo::glibc, "Version of the C library.");
  module.def(
      "system", [] { return SystemInfo(system()); }, py::call_guard<py::gil_scoped_release>(),
      "A copy of the facts of this process and machine.");
}

void bind_variant(py::module_& module) {
  py::class_<VariantDecision>(module, "VariantDecision", "Why a variant was chosen or not.")
      .def_readonly("variant", &VariantDecision::variant, "Name of the variant directory.")
      .def_readonly("accepted", &VariantDecision::accepted, "The variant fits.")
      .def_readonly("reason", &VariantDecision::reason, "What differs; empty when it fits.");
  py::class_<Variant>(module, "Variant", "A build variant, parsed from its directory name.")
      .def_static("parse", &Variant::parse, "directory_name"_a,
                  "None for a name outside the grammar.")
      .def_property_readonly("variant_str", &Variant::str, "The directory name.")
      .def_property_readonly("is_noarch", &Variant::is_noarch,
                             "Pure Python: no binary for one CPU and system.")
      .def_property_readonly(
          "backend",
          [](const Variant& variant) {
            return variant.backend() ? std::optional(variant.backend()->compute_name())
                                     : std::nullopt;
          },
          "Compute part of the name, None for noarch variants.")
      .def_property_readonly("cpu", &Variant::cpu, "CPU part of the name.")
      .def_property_readonly("os", &Variant::os, "System part of the name.");
}

int python_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return 10;
    case LogLevel::kInfo:
      return 20;
    case LogLevel::kWarning:
      return 30;
    default:
      return 40;
  }
}

// Records go to the logger `kernelhub` until the interpreter ends.
void route_log_to_python() {
  set_log_callback([](LogLevel level, std::string_view message) {
    if (Py_IsInitialized() == 0) return;
    const py::gil_scoped_acquire gil;
    try {
      py::module_::import("logging")
          .attr("getLogger")("kernelhub")
          .attr("log")(python_level(level), "%s", message);
    } catch (py::error_already_set& error) {
      // A handler of the user raised; the C++ caller must not see it.
      error.discard_as_unraisable("kernelhub log");
    }
  });
  py::module_::import("atexit").attr("register")(py::cpp_function([] { set_log_callback({}); }));
}

}  // namespace

void bind_core(py::module_& module) {
  bind_config(module);
  bind_system(module);
  bind_variant(module);
  module.def(
      "canonical_metadata",
      [](const py::bytes& content, const std::string& origin) {
        return Metadata::parse(std::string_view(content), origin).to_json();
      },
      "content"_a, "origin"_a,
      "Strict parse of the bytes of a metadata.json; the same facts in canonical form.");
  route_log_to_python();
}

}  // namespace kernelhub::python

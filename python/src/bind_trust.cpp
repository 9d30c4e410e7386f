// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"

#include "kernelhub/core/digest.h"
#include "kernelhub/core/error.h"
#include "kernelhub/loader/preflight.h"
#include "kernelhub/loader/verified_binary.h"
#include "kernelhub/trust/verifier.h"

#include <pybind11/stl.h>

namespace py = pybind11;
using namespace py::literals;

namespace kernelhub::python {
namespace {

using trust::VerifiedPackage;

const VerifiedPackage::File& file_of(const VerifiedPackage& package, const std::string& path) {
  const VerifiedPackage::File* file = package.find(path);
  if (file == nullptr) throw py::key_error(path);
  return *file;
}

// The bytes that were judged: read again through the same descriptor and compared again, because
// another user may be able to write to the file.
std::string read_judged(const VerifiedPackage& package, const std::string& path) {
  const VerifiedPackage::File& file = file_of(package, path);
  std::string content = package.read(file);
  if (digest_of(file.digest.algorithm, content) != file.digest) {
    throw LoadError(
        ErrorCode::kFileChanged,
        "file " + (package.origin().directory / path).string() + " changed after it was verified",
        "let no other user write to the package directory, then load it again");
  }
  return content;
}

std::vector<std::string> paths_of(const VerifiedPackage& package) {
  std::vector<std::string> paths;
  for (const VerifiedPackage::File& file : package.files()) paths.push_back(file.path);
  return paths;
}

void require_loadable(const VerifiedPackage& package, const std::string& path) {
  loader::PreflightOptions options;
  options.local_evidence = !package.origin().repo;
  loader::require_preflight(file_of(package, path).fd, (package.origin().directory / path).string(),
                            options);
}

}  // namespace

void bind_trust(py::module_& module) {
  py::class_<VerifiedPackage>(module, "VerifiedPackage",
                              "A variant whose every byte was compared with what it must be. Keeps "
                              "one descriptor per file open for its life.")
      .def_property_readonly(
          "directory",
          [](const VerifiedPackage& package) { return package.origin().directory.string(); },
          "Where the files are.")
      .def_property_readonly(
          "variant", [](const VerifiedPackage& package) { return package.origin().variant; },
          "Name of the variant directory.")
      .def_property_readonly(
          "repo_id",
          [](const VerifiedPackage& package) {
            const auto& repo = package.origin().repo;
            return repo ? std::optional(repo->str()) : std::nullopt;
          },
          "Repository of the hub, None for a local directory.")
      .def_property_readonly(
          "commit",
          [](const VerifiedPackage& package) {
            const auto& commit = package.origin().commit;
            return commit ? std::optional(commit->str()) : std::nullopt;
          },
          "Commit of the repository, None for a local directory.")
      .def_property_readonly(
          "metadata_json",
          [](const VerifiedPackage& package) { return package.metadata().to_json(); },
          "metadata.json in canonical form.")
      .def_property_readonly(
          "package_id", [](const VerifiedPackage& package) { return package.metadata().id; },
          "`id` of the metadata: the name of the Python module.")
      .def_property_readonly(
          "python_name",
          [](const VerifiedPackage& package) { return python_name(package.metadata().name); },
          "Name of the kernel with '-' replaced by '_'.")
      .def_property_readonly("variant_digest", &VerifiedPackage::variant_digest,
                             "Digest of the whole variant, 'sha256:<hex>'.")
      .def_property_readonly("needs_sealed", &VerifiedPackage::needs_sealed,
                             "Others may write to the files: load a sealed copy.")
      .def_property_readonly("paths", &paths_of, "Files relative to the directory.")
      .def(
          "read",
          [](const VerifiedPackage& package, const std::string& path) {
            return py::bytes(read_judged(package, path));
          },
          "path"_a, "Verified content of one file.")
      .def(
          "times",
          [](const VerifiedPackage& package, const std::string& path) {
            const VerifiedPackage::File& file = file_of(package, path);
            return std::pair(file.modified_ns, file.changed_ns);
          },
          "path"_a,
          "Last changes of content and of status, in nanoseconds, from before it was hashed.")
      .def(
          "descriptor",
          [](const VerifiedPackage& package, const std::string& path) {
            return file_of(package, path).fd;
          },
          "path"_a, "Descriptor of one file, owned by the package.")
      .def("require_loadable", &require_loadable, "path"_a,
           py::call_guard<py::gil_scoped_release>(),
           "ELF checks on one file before anything of it runs; raises LoadError.")
      .def(
          "require_unchanged",
          [](const VerifiedPackage& package, const std::string& path) {
            loader::require_unchanged(file_of(package, path), package.origin().directory / path);
          },
          "path"_a, "Raises IntegrityError when the file was written since before it was verified.")
      .def(
          "require_mapped_copy",
          [](const VerifiedPackage& package, const std::string& path, std::string_view ns) {
            return loader::require_mapped_copy(file_of(package, path), ns,
                                               package.origin().directory / path,
                                               package.needs_sealed());
          },
          "path"_a, "op_namespace"_a, py::call_guard<py::gil_scoped_release>(),
          "Name by which dlopen gives the mapped library of the same bytes; raises LoadError when "
          "the op namespace belongs to other bytes.");
}

}  // namespace kernelhub::python

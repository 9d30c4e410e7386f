// SPDX-License-Identifier: Apache-2.0
// The one table from error codes to the exception classes of kernelhub/errors.py.
#include "bindings.h"

#include "kernelhub/core/error.h"

#include <string>
#include <vector>

namespace py = pybind11;

namespace kernelhub::python {
namespace {

struct ClassRow {
  const char* name;
  std::vector<ErrorCode> codes;
};

const std::vector<ClassRow>& class_table() {
  using enum ErrorCode;
  static const std::vector<ClassRow> table = {
      {"ArgumentError",
       {kInvalidArgument, kInvalidRepoId, kInvalidRevision, kInvalidConfig, kInvalidBackend,
        kInvalidDigest}},
      {"InvalidFile", {kInvalidMetadata, kInvalidLockfile, kInvalidJson, kInvalidToml}},
      {"StorageError", {kIo, kDiskFull, kReadOnly, kLockTimeout, kCacheReadOnly}},
      {"NotLocked", {kNotLocked}},
      {"VersionNotFound", {kVersionNotFound}},
      {"NotCached", {kOfflineMiss}},
      {"NoVariant", {kNoCompatibleVariant}},
      {"Untrusted",
       {kTrustDenied, kPublisherUnverifiable, kSignatureMissing, kUnsafeOwnership, kPolicyInvalid,
        kAuditFailed}},
      {"IntegrityError",
       {kSignatureInvalid, kDigestMismatch, kUnknownFile, kMissingFile, kBindingMismatch,
        kDigestMissing, kUnsafePath, kIntegrity, kUnsafeListing, kFileChanged}},
      {"Incompatible", {kArchMismatch, kClientTooOld}},
      {"DependencyError", {kDependencyUnsupported}},
  };
  return table;
}

const char* class_name_of(ErrorCode code) {
  for (const ClassRow& row : class_table()) {
    for (const ErrorCode listed : row.codes) {
      if (listed == code) return row.name;
    }
  }
  // The ranges of error.h.
  const int value = static_cast<int>(code);
  if (value >= 200 && value < 300) return "HubError";
  if (value >= 300 && value < 400) return "IntegrityError";
  if (value >= 400 && value < 450) return "LoadError";
  return "KernelHubError";
}

void raise(const Error& error) {
  const std::string name(error_code_name(error.code()));
  const py::object made = py::module_::import("kernelhub.errors")
                              .attr("from_core")(class_name_of(error.code()), name, error.what(),
                                                 error.hint(), error.details());
  PyErr_SetObject(py::type::of(made).ptr(), made.ptr());
}

}  // namespace

void bind_errors() {
  py::register_local_exception_translator([](std::exception_ptr pending) {
    try {
      if (pending) std::rethrow_exception(pending);
    } catch (const Error& error) {
      raise(error);
    }
  });
}

}  // namespace kernelhub::python

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine in plain C that runs a kernel package without torch, Python or C++:
 *
 *   c_engine <package>/build/tvm-ffi01-cpu-x86_64-linux/_activation_cpu_<uid>.so
 *
 * It maps the library, asks its descriptor who it is, lends it an error channel, and computes
 * gelu_fast over eight numbers in its own memory. A program that takes packages from a hub should
 * load them with libkernelhub_loader, which verifies the file before any of it runs.
 */
#include "kernelhub/abi/package.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

enum { kCount = 8 };

static char error_text[512];

static void set_error(const char* kind, const char* message) {
  snprintf(error_text, sizeof error_text, "%s: %s", kind, message);
}

static const kh_host host = {
    .size = sizeof(kh_host), .abi = KERNELHUB_ABI, .set_error = &set_error};

/* The tanh form of GELU (eq. 2 of arXiv:1606.08415), in double precision. */
static double gelu_reference(double x) {
  const double pi = 3.14159265358979323846;
  return 0.5 * x * (1.0 + tanh(sqrt(2.0 / pi) * (x + 0.044715 * x * x * x)));
}

static DLTensor tensor_of(float* data, int64_t* shape) {
  const DLTensor tensor = {
      .data = data, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLFloat, 32, 1}, .shape = shape};
  return tensor;
}

static int attach(void* library) {
  const kh_package_entry entry = (kh_package_entry)dlsym(library, KERNELHUB_PACKAGE_SYMBOL);
  const kh_package* package = entry == NULL ? NULL : entry(KERNELHUB_ABI);
  if (package == NULL) {
    puts("package  without a descriptor: its errors have no text");
    return 0;
  }
  printf("package  %s, version %lld, %u functions\n", package->id, (long long)package->version,
         package->num_functions);
  if (!KH_HAS(package, attach) || package->attach == NULL) return 0;
  return package->attach(&host);
}

static int run(kh_call gelu) {
  float x[kCount], out[kCount];
  for (int i = 0; i < kCount; ++i) x[i] = (float)i - 3.5f;
  int64_t shape[2] = {1, kCount};
  DLTensor in = tensor_of(x, shape), result = tensor_of(out, shape);
  kh_value args[2] = {{.type = KH_DLTENSOR, .u.p = &result}, {.type = KH_DLTENSOR, .u.p = &in}};
  kh_value none = {.type = KH_NONE};
  if (gelu(NULL, args, 2, &none) != 0) return -1;
  double worst = 0;
  for (int i = 0; i < kCount; ++i) {
    const double reference = gelu_reference(x[i]);
    worst = fmax(worst, fabs(reference - out[i]));
    printf("%8.2f  %12.7f  reference %12.7f\n", x[i], out[i], reference);
  }
  printf("largest difference  %.2g\n", worst);
  if (worst > 1e-6) {
    set_error("ValueError", "gelu_fast differs from its formula");
    return -1;
  }
  /* A call that must fail says why. */
  shape[1] = kCount - 1;
  int64_t other[2] = {1, kCount};
  in.shape = other;
  if (gelu(NULL, args, 2, &none) == 0) {
    set_error("RuntimeError", "gelu_fast took tensors of two shapes");
    return -1;
  }
  printf("refused  %s\n", error_text);
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: c_engine <library of a tvm-ffi cpu variant of activation>\n");
    return 2;
  }
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "c_engine: %s\n", dlerror());
    return 1;
  }
  const kh_call gelu = (kh_call)dlsym(library, KERNELHUB_FUNCTION_PREFIX "gelu_fast");
  if (gelu == NULL) {
    fprintf(stderr, "c_engine: %s: no function gelu_fast\n", argv[1]);
    return 1;
  }
  if (attach(library) != 0 || run(gelu) != 0) {
    fprintf(stderr, "c_engine: %s\n", error_text);
    return 1;
  }
  return 0;
}

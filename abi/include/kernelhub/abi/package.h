/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <dlpack/dlpack.h>

#include <stddef.h>
#include <stdint.h>

/*
 * C contract between a kernel binary and whoever loads it (docs/formats/package-abi.md).
 *
 * A package exports each function as `__tvm_ffi_<name>` with the signature `kh_call`, which is the
 * calling convention of tvm-ffi. It may also export `kernelhub_package_v1`, which adds identity,
 * schemas, flags and a table of services of the host. A package needs no library for any of it.
 *
 *   KH_EXPORT int __tvm_ffi_scale(void* self, const kh_value* args, int32_t nargs,
 *                                 kh_value* result);
 *
 * C++ authors use kernelhub/abi/kernel.hpp, which writes both exports.
 */

#ifdef __cplusplus
extern "C" {
#endif

#define KERNELHUB_ABI_MAJOR 1
#define KERNELHUB_ABI_MINOR 0
/* major in the upper, minor in the lower 16 bits; the form of every `abi` field. */
#define KERNELHUB_ABI ((uint32_t)KERNELHUB_ABI_MAJOR << 16 | (uint32_t)KERNELHUB_ABI_MINOR)

/* Name of the descriptor's export and prefix of the functions' exports. */
#define KERNELHUB_PACKAGE_SYMBOL "kernelhub_package_v1"
#define KERNELHUB_FUNCTION_PREFIX "__tvm_ffi_"

#define KH_EXPORT __attribute__((visibility("default")))

/* kh_value.type. Codes from KH_OBJECT on are counted objects whose payload `p` starts with a
 * kh_object; the callee borrows arguments, the caller owns results. */
enum {
  KH_NONE = 0,
  KH_INT = 1,   /* u.i */
  KH_BOOL = 2,  /* u.i, 0 or 1 */
  KH_FLOAT = 3, /* u.f */
  KH_POINTER = 4,
  KH_DTYPE = 5,         /* u.dtype */
  KH_DEVICE = 6,        /* u.device */
  KH_DLTENSOR = 7,      /* u.p is a DLTensor*, borrowed for the call */
  KH_CSTRING = 8,       /* u.s, NUL terminated, borrowed for the call */
  KH_BYTE_ARRAY = 9,    /* u.p is a kh_bytes*, borrowed for the call */
  KH_SMALL_STRING = 11, /* `aux` bytes of text in the payload itself */
  KH_SMALL_BYTES = 12,
  KH_OBJECT = 64,
  KH_STRING = 65, /* object followed by kh_bytes */
  KH_BYTES = 66,
  KH_ERROR = 67,
  KH_FUNCTION = 68,
  KH_SHAPE = 69,
  KH_TENSOR = 70 /* object followed by DLTensor: see kh_tensor_of */
};

/* One argument or result: 16 bytes, layout of tvm-ffi's Any. */
typedef struct kh_value {
  int32_t type;
  uint32_t aux; /* 0, or the length of a small string */
  union {
    int64_t i;
    double f;
    void* p;
    const char* s;
    DLDataType dtype;
    DLDevice device;
  } u;
} kh_value;

/* Head of every counted object, 24 bytes. `counts`: strong in the lower, weak in the upper half.
 * Only the host's object functions touch it. */
typedef struct kh_object {
  uint64_t counts;
  int32_t type;
  uint32_t pad;
  void (*deleter)(void* self, int flags);
} kh_object;

typedef struct kh_bytes {
  const char* data;
  size_t size_bytes;
} kh_bytes;

/* Runs one function. `self` is NULL for exported functions. `result->type` is KH_NONE on entry.
 * Returns 0, or -1 after reporting through kh_fail. */
typedef int (*kh_call)(void* self, const kh_value* args, int32_t nargs, kh_value* result);

/* Services of the host. Read a field only when KH_HAS says that it lies inside `size`; each may
 * be NULL. The host table outlives the package. */
typedef struct kh_host {
  uint32_t size; /* sizeof(kh_host) of the host */
  uint32_t abi;
  /* Error of the calling thread; both texts are copied. `kind` is a Python exception name. */
  void (*set_error)(const char* kind, const char* message);
  /* Stream that the caller works on, e.g. a cudaStream_t; NULL is the default stream. */
  void* (*current_stream)(int32_t device_type, int32_t device_id);
  /* Contiguous tensor of shape, dtype and device of `like`. 0, or -1 with the error set. */
  int (*alloc)(const DLTensor* like, DLManagedTensorVersioned** out);
  /* Calls body(context, first, last) over disjoint ranges that cover [begin, end), at least
   * `grain` items each where there are as many; returns when all are done. The threads are the
   * host's; where this is NULL, run the whole range inline. `body` must not throw. */
  void (*parallel_for)(int64_t begin, int64_t end, int64_t grain,
                       void (*body)(void* context, int64_t first, int64_t last), void* context);
  /* 0 debug, 1 info, 2 warning, 3 error. */
  void (*log)(int level, const char* message);
} kh_host;

#define KH_HAS(table, field) \
  ((table)->size >=          \
   (size_t)((const char*)&(table)->field - (const char*)(table)) + sizeof((table)->field))

/* kh_function.flags and kh_package.flags. A package flag holds for every function. */
enum {
  KH_UNLOADABLE = 1,      /* dlclose is safe once no call runs and no result lives */
  KH_THREAD_SAFE = 2,     /* any number of threads may call at once */
  KH_STREAM_AWARE = 4,    /* device work goes to the host's current stream only */
  KH_GRAPH_SAFE = 8,      /* may be captured into a device graph */
  KH_NO_GLOBAL_STATE = 16 /* two copies in one process do not see each other */
};

typedef struct kh_function {
  const char* name; /* "gelu_fast" */
  kh_call call;
  const char* schema; /* "gelu_fast(Tensor! out, Tensor x) -> ()", or NULL */
  uint64_t flags;
} kh_function;

/* Descriptor of a package; everything in it lives as long as the library is mapped. */
typedef struct kh_package {
  uint32_t size; /* sizeof(kh_package) of the package */
  uint32_t abi;
  const char* id;      /* `id` of metadata.json, required */
  const char* name;    /* `name` of metadata.json, required */
  const char* backend; /* "cpu", "cuda", ...; this and the next two may be NULL */
  const char* torch_namespace;
  const char* metadata_json;
  int64_t version;
  uint64_t flags;
  const kh_function* functions;
  uint32_t num_functions;
  /* Each may be NULL and returns 0, or -1 with the error set. The host calls attach once, before
   * the first function; quiesce ends background work; detach is the last call. */
  int (*attach)(const kh_host* host);
  int (*quiesce)(void);
  int (*detach)(void);
} kh_package;

/* Exported by packages that have a descriptor. NULL: this package cannot serve the major version
 * of `host_abi`. Both sides read only fields inside the other's `size`; minor versions append. */
typedef const kh_package* (*kh_package_entry)(uint32_t host_abi);
KH_EXPORT const kh_package* kernelhub_package_v1(uint32_t host_abi);

/* Resolved by the dynamic linker where libtvm_ffi is in the process, NULL elsewhere. */
KH_EXPORT void TVMFFIErrorSetRaisedFromCStr(const char* kind, const char* message)
    __attribute__((weak));

/* Reports an error to the host when it takes errors, else to tvm-ffi when it is there, else to
 * nobody. Always returns -1: `return kh_fail(host, "ValueError", "scale: x is not contiguous");`
 * `host` may be NULL. */
static inline int kh_fail(const kh_host* host, const char* kind, const char* message) {
  if (host != NULL && KH_HAS(host, set_error) && host->set_error != NULL) {
    host->set_error(kind, message);
  } else if (TVMFFIErrorSetRaisedFromCStr != NULL) {
    TVMFFIErrorSetRaisedFromCStr(kind, message);
  }
  return -1;
}

/* The tensor of an argument that came as a plain DLTensor or as a tvm-ffi tensor object; NULL when
 * it is neither. */
static inline DLTensor* kh_tensor_of(const kh_value* value) {
  if (value->type == KH_DLTENSOR) return (DLTensor*)value->u.p;
  if (value->type == KH_TENSOR && value->u.p != NULL) {
    return (DLTensor*)((char*)value->u.p + sizeof(kh_object));
  }
  return NULL;
}

#ifdef __cplusplus
}
#endif

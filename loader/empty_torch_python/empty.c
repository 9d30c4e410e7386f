/* SPDX-License-Identifier: Apache-2.0 */
/* Linked without anything as libtorch_python.so: stands in for the real one where a package names
 * it and uses nothing of it, in processes without Python. */
extern const int kernelhub_empty_library;
__attribute__((visibility("hidden"))) const int kernelhub_empty_library = 1;

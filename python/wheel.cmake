# SPDX-License-Identifier: Apache-2.0
# What goes into the wheel: the extension, our two libraries beside it, and the command-line program
# as a script, which finds the libraries in the site-packages of its own environment.
install(TARGETS kernelhub_python LIBRARY DESTINATION kernelhub COMPONENT python)
# A wheel has no links: the file bears the name that the loader looks for.
set_target_properties(kernelhub kernelhub_loader PROPERTIES VERSION ${PROJECT_VERSION_MAJOR})
install(
  TARGETS kernelhub kernelhub_loader
  LIBRARY DESTINATION kernelhub/lib COMPONENT python NAMELINK_SKIP
)
set(python_lib "$ORIGIN/../lib/python${Python_VERSION_MAJOR}.${Python_VERSION_MINOR}")
set_target_properties(
  kernelhub_cli
  PROPERTIES
    INSTALL_RPATH
      "${python_lib}/site-packages/kernelhub/lib;${python_lib}/dist-packages/kernelhub/lib"
)
install(TARGETS kernelhub_cli RUNTIME DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT python)

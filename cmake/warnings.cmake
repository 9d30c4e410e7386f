# SPDX-License-Identifier: Apache-2.0
# Flags of every C++ target of the project: warnings, hardening, hidden visibility.
add_library(kernelhub_build_flags INTERFACE)
target_compile_options(
  kernelhub_build_flags
  INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-Wno-sign-conversion;-Wformat=2;-Werror=format-security;-Werror=return-type;-fvisibility=hidden;-fvisibility-inlines-hidden;-fstack-protector-strong;-fstack-clash-protection>
)
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-fcf-protection=full KERNELHUB_HAS_CF_PROTECTION)
check_cxx_compiler_flag(-ftrivial-auto-var-init=zero KERNELHUB_HAS_AUTO_VAR_INIT)
if(KERNELHUB_HAS_CF_PROTECTION)
  target_compile_options(
    kernelhub_build_flags
    INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fcf-protection=full>
  )
endif()
if(KERNELHUB_HAS_AUTO_VAR_INIT)
  target_compile_options(
    kernelhub_build_flags
    INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ftrivial-auto-var-init=zero>
  )
endif()
target_compile_definitions(kernelhub_build_flags INTERFACE _GLIBCXX_ASSERTIONS)
if(NOT KERNELHUB_SANITIZE)
  target_compile_definitions(
    kernelhub_build_flags
    INTERFACE $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=3>
  )
endif()
target_link_options(
  kernelhub_build_flags
  INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--as-needed
)

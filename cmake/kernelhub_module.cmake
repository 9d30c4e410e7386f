# SPDX-License-Identifier: Apache-2.0
# A module is one folder. Three targets carry it:
#   kernelhub_headers_<name>  INTERFACE  what other modules may include: include/ and internal/
#   kernelhub_obj_<name>      OBJECT     compiled once; goes into exactly one shipped library or program
#   kernelhub_mod_<name>      STATIC     the same objects for tests and programs that reach internals
#
#   kernelhub_module(<name> LIBRARY <shipped target> HEADERS <public headers> SOURCES <...>
#                    DEPENDS <modules> LINK <third-party targets>)
#
# include/  public, installed      internal/  for other modules, not installed      src/  private
function(kernelhub_module name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "LIBRARY" "HEADERS;SOURCES;DEPENDS;LINK")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "kernelhub_module(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  list(TRANSFORM ARG_DEPENDS PREPEND kernelhub_headers_ OUTPUT_VARIABLE header_depends)
  list(TRANSFORM ARG_DEPENDS PREPEND kernelhub_mod_ OUTPUT_VARIABLE module_depends)

  add_library(kernelhub_headers_${name} INTERFACE)
  target_include_directories(
    kernelhub_headers_${name}
    INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/include
  )
  if(IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/internal)
    target_include_directories(
      kernelhub_headers_${name}
      INTERFACE ${CMAKE_CURRENT_SOURCE_DIR}/internal
    )
  endif()
  target_link_libraries(kernelhub_headers_${name} INTERFACE ${header_depends})

  add_library(kernelhub_obj_${name} OBJECT ${ARG_SOURCES})
  set_target_properties(kernelhub_obj_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_features(kernelhub_obj_${name} PRIVATE cxx_std_20)
  target_include_directories(kernelhub_obj_${name} PRIVATE src)
  target_compile_definitions(kernelhub_obj_${name} PRIVATE KERNELHUB_BUILDING)
  target_link_libraries(
    kernelhub_obj_${name}
    PRIVATE kernelhub_headers_${name} kernelhub_build_flags ${ARG_LINK}
  )

  add_library(kernelhub_mod_${name} STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:kernelhub_obj_${name}>)
  set_target_properties(kernelhub_mod_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(
    kernelhub_mod_${name}
    PUBLIC kernelhub_headers_${name} ${module_depends} ${ARG_LINK}
  )

  if(ARG_LIBRARY)
    target_sources(${ARG_LIBRARY} PRIVATE $<TARGET_OBJECTS:kernelhub_obj_${name}>)
    target_link_libraries(${ARG_LIBRARY} PRIVATE ${ARG_LINK})
    if(ARG_HEADERS)
      target_sources(
        ${ARG_LIBRARY}
        PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include FILES ${ARG_HEADERS}
      )
    endif()
  endif()
endfunction()

# kernelhub_test(<module> SOURCES <...> [LABEL <unit|system|slow>] [LINK <targets>] [DEPENDS <targets>])
# One GoogleTest binary per module; it sees the private headers of its own module only.
function(kernelhub_test module)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "LABEL" "SOURCES;LINK;DEPENDS;DEFINITIONS")
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  set(target kernelhub_test_${module})
  add_executable(${target} ${ARG_SOURCES})
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_compile_definitions(
    ${target}
    PRIVATE KERNELHUB_SOURCE_DIR="${PROJECT_SOURCE_DIR}" ${ARG_DEFINITIONS}
  )
  # Tests name the options they mean with designated initialisers and leave the rest.
  target_compile_options(${target} PRIVATE -Wno-missing-field-initializers)
  get_target_property(module_source_dir kernelhub_obj_${module} SOURCE_DIR)
  target_include_directories(
    ${target}
    PRIVATE ${module_source_dir}/src ${PROJECT_SOURCE_DIR}/tests/support
  )
  target_link_libraries(
    ${target}
    PRIVATE kernelhub_mod_${module} ${ARG_LINK} kernelhub_build_flags GTest::gtest_main GTest::gmock
  )
  if(ARG_DEPENDS)
    add_dependencies(${target} ${ARG_DEPENDS})
  endif()
  # What the sanitizer presets build: all test programs, or those whose tests run threads.
  foreach(group IN ITEMS unit ${ARG_LABEL})
    if(NOT TARGET kernelhub_${group}_tests)
      add_custom_target(kernelhub_${group}_tests)
    endif()
    add_dependencies(kernelhub_${group}_tests ${target})
  endforeach()
  gtest_discover_tests(${target} PROPERTIES TIMEOUT 300 DISCOVERY_TIMEOUT 60)
  # Discovery splits a property at ';', so a list of labels is set after it.
  set(labels ${CMAKE_CURRENT_BINARY_DIR}/${target}_labels.cmake)
  file(
    WRITE ${labels}
    "if(${target}_TESTS)\n"
    "  set_tests_properties(\${${target}_TESTS} PROPERTIES LABELS \"${ARG_LABEL}\")\n"
    "endif()\n"
  )
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${labels})
endfunction()

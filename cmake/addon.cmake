# The addons: the binding linked with everything into one .node each.

file(GLOB binding_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/native/binding/*.cc")
if(NOT TARGET ternion_engine OR NOT binding_sources)
  message(STATUS "native/binding or native/engine is empty: no addon is built")
  return()
endif()

# Node's headers: from cmake-js, from whoever calls (node-gyp), or from the node-api-headers package.
if(CMAKE_JS_INC)
  set(node_include ${CMAKE_JS_INC})
elseif(TERNION_NODE_INCLUDE)
  set(node_include "${TERNION_NODE_INCLUDE}")
else()
  execute_process(
    COMMAND node -p "require('node-api-headers').include_dir"
    WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
    OUTPUT_VARIABLE node_include OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT node_include)
  message(FATAL_ERROR "No Node-API headers: run npm ci, or set TERNION_NODE_INCLUDE to the folder of node_api.h")
endif()

if(TERNION_VARIANT AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
  set_source_files_properties("${CMAKE_CURRENT_SOURCE_DIR}/native/binding/glibc_floor.cc" PROPERTIES
    COMPILE_DEFINITIONS TERNION_PREBUILD_RUNTIME)
endif()

function(ternion_add_addon target folder)
  add_library(${target} MODULE ${binding_sources} ${CMAKE_JS_SRC})
  set_target_properties(${target} PROPERTIES PREFIX "" SUFFIX ".node"
    LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/addon")
  target_include_directories(${target} SYSTEM PRIVATE ${node_include})
  target_compile_definitions(${target} PRIVATE NAPI_VERSION=8)
  target_link_libraries(${target} PRIVATE ternion_engine ternion_own ${CMAKE_JS_LIB} ${ARGN})
  if(APPLE)
    target_link_options(${target} PRIVATE -undefined dynamic_lookup)
  elseif(NOT WIN32)
    # The map says which objects were really linked: THIRD_PARTY_NOTICES is made from it.
    target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL -Wl,--gc-sections
      "-Wl,--version-script=${CMAKE_CURRENT_SOURCE_DIR}/cmake/exports.map"
      "-Wl,-Map=$<TARGET_FILE:${target}>.map")
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/cmake/exports.map")
  endif()

  if(TERNION_VARIANT AND NOT APPLE AND NOT MSVC)
    target_link_options(${target} PRIVATE -static-libstdc++ -static-libgcc)
  endif()

  # node-gyp empties build/ before it calls us, so this runs even when nothing was linked.
  add_custom_target(${target}-place ALL
    COMMAND "${CMAKE_COMMAND}" "-DFROM=$<TARGET_FILE:${target}>" "-DTO=${TERNION_OUTPUT_DIR}/${folder}/${target}.node"
            -P "${CMAKE_CURRENT_SOURCE_DIR}/cmake/place.cmake"
    VERBATIM)
  add_dependencies(${target}-place ${target})
endfunction()

ternion_add_addon(ternion ".")

# Which GPU backend an addon carries beside Vulkan is the binding's to know: it registers it. They are put into a
# folder of their own, because node-gyp-build takes the first addon that it finds in build/Release.
if(TERNION_HIP)
  ternion_add_addon(ternion-hip gpu ggml-hip)
  target_compile_definitions(ternion-hip PRIVATE TERNION_WITH_HIP)
endif()
if(TERNION_CUDA)
  ternion_add_addon(ternion-cuda gpu ggml-cuda)
  target_compile_definitions(ternion-cuda PRIVATE TERNION_WITH_CUDA)
endif()

if(TERNION_TESTS AND TERNION_SANITIZE MATCHES address)
  add_library(leak-check MODULE "${CMAKE_CURRENT_SOURCE_DIR}/native/test/leak_check.cc")
  set_target_properties(leak-check PROPERTIES PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/addon")
  target_include_directories(leak-check SYSTEM PRIVATE ${node_include})
  target_compile_definitions(leak-check PRIVATE NAPI_VERSION=8)
  target_link_libraries(leak-check PRIVATE ternion_own)
endif()

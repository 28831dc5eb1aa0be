# Decides whether ggml-vulkan is built, and with which headers and shader compiler: the system's if they are new
# enough, else Debian 13's unpacked into .toolchain/. Sets TERNION_VULKAN_ENABLED and what upstream's find_package
# calls look for.

set(TERNION_VULKAN_ENABLED OFF)
if(NOT TERNION_VULKAN MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "TERNION_VULKAN is '${TERNION_VULKAN}'; expected AUTO, ON or OFF")
elseif(TERNION_VULKAN STREQUAL "OFF")
  return()
endif()

# Upstream uses VK_EXT_layer_settings without a fallback, so older headers do not compile. A glslc that knows
# cooperative matrices knows everything else that the shaders cannot do without.
set(minimum_header_version 280)
set(glslc_probe "${TERNION_LLAMA_DIR}/ggml/src/ggml-vulkan/vulkan-shaders/feature-tests/coopmat.comp")

# Looks for a usable set below `root` (empty: the system). Sets vulkan_include, vulkan_glslc, vulkan_spirv and, when
# one of them does not do, vulkan_problem.
function(ternion_find_vulkan_tools root)
  set(problem "")
  unset(include CACHE)
  unset(glslc CACHE)
  if(root)
    set(where PATHS "${root}/usr/include" NO_DEFAULT_PATH)
    set(glslc_where PATHS "${root}/bin" NO_DEFAULT_PATH)
    set(SPIRV-Headers_DIR "${root}/usr/share/cmake/SPIRV-Headers")
  else()
    set(where HINTS "$ENV{VULKAN_SDK}/include")
    set(glslc_where HINTS "$ENV{VULKAN_SDK}/bin")
  endif()

  find_path(include vulkan/vulkan_core.h ${where} NO_CACHE)
  find_program(glslc glslc ${glslc_where} NO_CACHE)
  find_package(SPIRV-Headers CONFIG QUIET)
  if(NOT include)
    set(problem "no Vulkan headers")
  else()
    file(STRINGS "${include}/vulkan/vulkan_core.h" line REGEX "^#define VK_HEADER_VERSION +[0-9]+")
    string(REGEX MATCH "[0-9]+$" version "${line}")
    if(version LESS minimum_header_version)
      set(problem "Vulkan headers ${version} are older than ${minimum_header_version}")
    endif()
  endif()
  if(NOT problem AND NOT glslc)
    set(problem "no glslc")
  elseif(NOT problem)
    execute_process(COMMAND "${glslc}" -o - -fshader-stage=compute --target-env=vulkan1.3 "${glslc_probe}"
      RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
    if(NOT result EQUAL 0)
      set(problem "${glslc} is too old")
    endif()
  endif()
  if(NOT problem AND NOT SPIRV-Headers_FOUND)
    set(problem "no SPIR-V headers")
  endif()

  set(vulkan_problem "${problem}" PARENT_SCOPE)
  set(vulkan_include "${include}" PARENT_SCOPE)
  set(vulkan_glslc "${glslc}" PARENT_SCOPE)
  set(vulkan_spirv "${SPIRV-Headers_DIR}" PARENT_SCOPE)
endfunction()

ternion_find_vulkan_tools("")
if(vulkan_problem)
  find_program(TERNION_NODE node)
  execute_process(
    COMMAND "${TERNION_NODE}" "${CMAKE_CURRENT_SOURCE_DIR}/scripts/vulkan-toolchain.mjs"
    RESULT_VARIABLE result OUTPUT_VARIABLE reason OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(result EQUAL 0)
    ternion_find_vulkan_tools("${CMAKE_CURRENT_SOURCE_DIR}/.toolchain/vulkan")
  else()
    set(vulkan_problem "${vulkan_problem}; ${reason}")
  endif()
endif()

if(vulkan_problem)
  if(TERNION_VULKAN STREQUAL "ON")
    message(FATAL_ERROR "Vulkan cannot be built: ${vulkan_problem}")
  endif()
  message(STATUS "ternion: built without Vulkan: ${vulkan_problem}")
  return()
endif()

set(TERNION_VULKAN_ENABLED ON)
message(STATUS "ternion: Vulkan with ${vulkan_glslc}")

# What upstream's find_package calls accept as found. Vulkan::Vulkan is ours, so that nothing links libvulkan.
set(Vulkan_INCLUDE_DIR "${vulkan_include}" CACHE PATH "" FORCE)
set(Vulkan_GLSLC_EXECUTABLE "${vulkan_glslc}" CACHE FILEPATH "" FORCE)
set(Vulkan_LIBRARY "resolved at run time" CACHE STRING "" FORCE)
set(SPIRV-Headers_DIR "${vulkan_spirv}" CACHE PATH "" FORCE)
add_library(ternion_vulkan_headers INTERFACE)
target_include_directories(ternion_vulkan_headers SYSTEM INTERFACE "${vulkan_include}")
add_library(Vulkan::Vulkan ALIAS ternion_vulkan_headers)

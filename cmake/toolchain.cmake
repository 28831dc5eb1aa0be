# Compiler settings that hold for upstream's code and ours.

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} is too old; 12 or newer is needed (Debian package: g++)")
endif()

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# Another addon in the same process may carry its own ggml: nothing of ours may be visible to it.
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

find_program(TERNION_CCACHE ccache)
mark_as_advanced(TERNION_CCACHE)
if(TERNION_CCACHE AND UNIX)
  # Paths count relative to the checkout, so that one checkout's results serve another.
  set(launcher env "CCACHE_BASEDIR=${CMAKE_CURRENT_SOURCE_DIR}" CCACHE_NOHASHDIR=1 "${TERNION_CCACHE}")
  foreach(language C CXX)
    if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER "${launcher}")
    endif()
  endforeach()
endif()

if(TERNION_SANITIZE)
  if(NOT TERNION_SANITIZE MATCHES "^((address|undefined)(,(address|undefined))?|thread)$")
    message(FATAL_ERROR "TERNION_SANITIZE is '${TERNION_SANITIZE}'; expected address, undefined, address,undefined or thread")
  endif()
  set(instrument -fsanitize=${TERNION_SANITIZE} -fno-omit-frame-pointer -g1)
  if(NOT TERNION_SANITIZE_OWN)
    add_compile_options(${instrument})
  endif()
  add_link_options(-fsanitize=${TERNION_SANITIZE})
endif()

find_package(Threads REQUIRED)

# Language level and warnings of our own code; upstream's is compiled as upstream sets it.
add_library(ternion_own INTERFACE)
target_compile_features(ternion_own INTERFACE cxx_std_20)
if(NOT MSVC)
  target_compile_options(ternion_own INTERFACE -Wall -Wextra -Wpedantic)
endif()

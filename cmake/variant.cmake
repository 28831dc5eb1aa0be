# What ggml's CPU backend is compiled for. Without TERNION_VARIANT it is the machine that builds, and the C++ runtime is
# the system's: a build from source. With it, it is one of the processors that a prebuild is for, and the runtime is
# linked in. lib/addon/variants.ts asks a processor for these features before it loads such a file.
#
# Only ggml-cpu differs between variants: our kernels are all in every addon and chosen when it runs.

if(NOT TERNION_VARIANT)
  return()
endif()

string(TOLOWER "${CMAKE_SYSTEM_PROCESSOR}" processor)
if(processor MATCHES "^(x86_64|amd64)$")
  set(variants baseline avx512)
elseif(processor MATCHES "^(aarch64|arm64)$")
  set(variants baseline dotprod)
else()
  set(variants "")
endif()
if(NOT TERNION_VARIANT IN_LIST variants)
  message(FATAL_ERROR "TERNION_VARIANT is '${TERNION_VARIANT}'; expected, for ${processor}, one of: ${variants}")
endif()

set(GGML_NATIVE OFF)
if(processor MATCHES "^(x86_64|amd64)$")
  # Upstream's switches are what MSVC's flags are made from; elsewhere -march says all of it once more.
  foreach(feature IN ITEMS SSE42 AVX AVX2 BMI2 FMA F16C)
    set(GGML_${feature} ON)
  endforeach()
  set(wide OFF)
  set(TERNION_MARCH -march=x86-64-v3)
  if(TERNION_VARIANT STREQUAL "avx512")
    set(wide ON)
    set(TERNION_MARCH -march=x86-64-v4 -mavx512vnni -mavx512vbmi -mavx512vbmi2)
  endif()
  foreach(feature IN ITEMS AVX512 AVX512_VBMI AVX512_VNNI)
    set(GGML_${feature} ${wide})
  endforeach()
else()
  set(GGML_CPU_ARM_ARCH armv8-a)
  if(TERNION_VARIANT STREQUAL "dotprod")
    set(GGML_CPU_ARM_ARCH armv8.2-a+dotprod)
  endif()
  set(TERNION_MARCH "")
endif()
if(NOT MSVC)
  # Assertions name their file: a user's copy should not name the builder's folders. ccache makes the compiler's arguments
  # relative anyway, and without a flag of its own a prebuild takes nearly all of its objects from the build from source; but
  # it does not see the paths inside of unity files, which only `llama` has.
  set(TERNION_PREFIX_MAP "-ffile-prefix-map=${CMAKE_CURRENT_SOURCE_DIR}/=")
  if(NOT TERNION_CCACHE)
    add_compile_options("${TERNION_PREFIX_MAP}")
  endif()
else()
  set(TERNION_MARCH "")
  set(CMAKE_MSVC_RUNTIME_LIBRARY MultiThreaded)
endif()

# libllama and ggml from the vendored tree, through upstream's own CMake files, as static libraries.

set(BUILD_SHARED_LIBS OFF)
set(LLAMA_BUILD_COMMON OFF)
set(LLAMA_BUILD_TESTS OFF)
set(LLAMA_BUILD_TOOLS OFF)
set(LLAMA_BUILD_EXAMPLES OFF)
set(LLAMA_BUILD_SERVER OFF)
set(LLAMA_BUILD_APP OFF)
set(LLAMA_ALL_WARNINGS OFF)
set(LLAMA_OPENSSL OFF)
set(LLAMA_SUBPROCESS OFF)

set(GGML_CCACHE OFF)   # ours covers every target already
set(GGML_OPENMP OFF)   # ggml's own thread pool: one per process, under our control
set(GGML_VULKAN ${TERNION_VULKAN_ENABLED})
set(GGML_HIP ${TERNION_HIP})
set(GGML_CUDA ${TERNION_CUDA})

# Upstream would take these from the git repository around it, which is ours.
file(READ "${CMAKE_CURRENT_SOURCE_DIR}/vendor/llama.lock.json" ternion_lock)
string(JSON LLAMA_BUILD_COMMIT GET "${ternion_lock}" commit)
string(SUBSTRING "${LLAMA_BUILD_COMMIT}" 0 8 LLAMA_BUILD_COMMIT)
set(LLAMA_BUILD_NUMBER 0)
set(LLAMA_BUILD_IS_DEV OFF)
set(ENV{GIT_CEILING_DIRECTORIES} "${CMAKE_CURRENT_SOURCE_DIR}/vendor")

if(TERNION_HIP OR TERNION_CUDA)
  include(gpu-toolkits)
endif()

add_subdirectory("${TERNION_LLAMA_DIR}" "${CMAKE_BINARY_DIR}/llama" EXCLUDE_FROM_ALL SYSTEM)

if(TERNION_PREFIX_MAP)
  target_compile_options(llama PRIVATE "${TERNION_PREFIX_MAP}")
endif()
if(TERNION_MARCH)
  target_compile_options(ggml-cpu PRIVATE ${TERNION_MARCH})
endif()

# GPU backends are linked into the addon but stay out of ggml's registry, which would start them on first use:
# the engine registers one when a GPU may be used and its loader was found.
foreach(backend IN ITEMS vulkan hip cuda)
  string(TOUPPER "GGML_USE_${backend}" definition)
  foreach(property IN ITEMS COMPILE_DEFINITIONS INTERFACE_COMPILE_DEFINITIONS)
    get_target_property(values ggml ${property})
    if(values)
      list(REMOVE_ITEM values ${definition} GGML_USE_CUDA)
      set_property(TARGET ggml PROPERTY ${property} "${values}")
    endif()
  endforeach()
  foreach(property IN ITEMS LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
    get_target_property(values ggml ${property})
    list(REMOVE_ITEM values ggml-${backend})
    set_property(TARGET ggml PROPERTY ${property} "${values}")
  endforeach()
endforeach()

# A failed assertion may be thrown through ggml's C (engine/upstream_assertions.h), which has to have unwind tables: GCC makes them anyway, and
# -fexceptions would change what it makes of sums.
if(NOT MSVC)
  target_compile_options(ggml-base PRIVATE $<$<COMPILE_LANGUAGE:C>:-fasynchronous-unwind-tables>)
endif()

# A type of ours that upstream's tables refer to (vendor/patches/0006).
target_sources(ggml-base PRIVATE
  "${CMAKE_CURRENT_SOURCE_DIR}/kernels/formats/stq1_0.cc" "${CMAKE_CURRENT_SOURCE_DIR}/kernels/formats/gguf_types.cc")
target_include_directories(ggml-base PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")

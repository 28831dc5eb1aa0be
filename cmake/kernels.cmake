# Our own kernels: know ggml's tensors, know no engine. Each instruction set is compiled in a file of its own.

file(GLOB kernel_sources CONFIGURE_DEPENDS
  "${CMAKE_CURRENT_SOURCE_DIR}/kernels/formats/*.cc" "${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/*.cc")
list(FILTER kernel_sources EXCLUDE REGEX "/(stq1_0|gguf_types)\\.cc$") # in ggml itself: cmake/llama.cmake
add_library(ternion_kernels STATIC ${kernel_sources})
target_include_directories(ternion_kernels PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}")
target_include_directories(ternion_kernels SYSTEM PRIVATE "${TERNION_LLAMA_DIR}/ggml/src")
target_link_libraries(ternion_kernels PUBLIC ggml PRIVATE ternion_own)

# Each file for the processors that run it; cpu/select.cc chooses when the program runs.
set(avx2 -mavx2 -mfma -mf16c)
set(avx2_stq1_0 ${avx2})
set(avx_vnni ${avx2} -mavxvnni)
set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512vnni)
set(avx512_stq1_0 ${avx512} -mavx512vbmi -mavx512vbmi2)
if(MSVC)
  set(avx2 /arch:AVX2)
  set(avx2_stq1_0 /arch:AVX2)
  set(avx_vnni /arch:AVX2)
  set(avx512 /arch:AVX512)
  set(avx512_stq1_0 /arch:AVX512)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND avx512 -Wno-uninitialized -Wno-maybe-uninitialized) # GCC 12's own headers of AVX-512
  list(APPEND avx512_stq1_0 -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set(avx512_stq1_0_panel ${avx512_stq1_0})
set(avx512_quints ${avx512_stq1_0})
set(avx512_q6_k ${avx512})
foreach(name IN ITEMS avx2 avx2_stq1_0 avx_vnni avx512 avx512_stq1_0 avx512_stq1_0_panel avx512_quints avx512_q6_k)
  set(file "${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/${name}.cc")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set_source_files_properties("${file}" PROPERTIES COMPILE_OPTIONS "${${name}}")
  else()
    set_source_files_properties("${file}" PROPERTIES HEADER_FILE_ONLY ON)
  endif()
endforeach()

# GCC's scheduling before it hands out registers makes sums spill that fit into them.
set(neon -march=armv8.2-a+dotprod $<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>)
foreach(name IN ITEMS neon neon_stq1_0 neon_q6_k)
  set(file "${CMAKE_CURRENT_SOURCE_DIR}/kernels/cpu/${name}.cc")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set_source_files_properties("${file}" PROPERTIES COMPILE_OPTIONS "${neon}")
  else()
    set_source_files_properties("${file}" PROPERTIES HEADER_FILE_ONLY ON)
  endif()
endforeach()

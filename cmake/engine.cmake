# The engine: knows llama.cpp, knows no Node.

file(GLOB engine_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/native/engine/*.cc")
if(NOT engine_sources)
  message(STATUS "ternion: native/engine is empty, only the vendored libraries are built")
  return()
endif()

# Objects rather than an archive: the engine's own logger must win over whatever an archive would offer later.
add_library(ternion_engine OBJECT ${engine_sources})
target_include_directories(ternion_engine PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/native")
target_link_libraries(ternion_engine
  PUBLIC llama ternion_common ternion_vulkan ternion_kernels
  PRIVATE ternion_own)

# ggml-cpu's traits (the hook for our own kernels) are not part of its public headers.
target_include_directories(ternion_engine SYSTEM PRIVATE
  "${TERNION_LLAMA_DIR}/ggml/src" "${TERNION_LLAMA_DIR}/ggml/src/ggml-cpu")

# XXH3, for checksums; one file includes it.
set_source_files_properties("${CMAKE_CURRENT_SOURCE_DIR}/native/engine/checksum.cc" PROPERTIES
  INCLUDE_DIRECTORIES "${TERNION_LLAMA_DIR}/vendor/hash/xxhash")

# llama.cpp's own programs, from the same patched tree: what our results and speeds are compared with.

if(NOT TERNION_UPSTREAM_TOOLS)
  return()
endif()

# The rest of `common`, for programs only: command lines, and downloads that are compiled without TLS.
add_subdirectory("${TERNION_LLAMA_DIR}/vendor/cpp-httplib" "${CMAKE_BINARY_DIR}/llama/cpp-httplib" EXCLUDE_FROM_ALL SYSTEM)
add_library(llama-common STATIC EXCLUDE_FROM_ALL)
foreach(name IN ITEMS arg console debug download hf-cache imatrix-loader llguidance preset subproc)
  target_sources(llama-common PRIVATE "${common_dir}/${name}.cpp")
endforeach()
add_library(llama-common-log STATIC EXCLUDE_FROM_ALL "${common_dir}/log.cpp")
target_include_directories(llama-common-log PRIVATE "${common_dir}")
target_link_libraries(llama-common-log PRIVATE llama vendor::nlohmann)
target_compile_options(llama-common PRIVATE $<$<NOT:$<CXX_COMPILER_ID:MSVC>>:-w>)
target_link_libraries(llama-common
  PUBLIC "$<LINK_GROUP:RESCAN,ternion_common,llama-common-log>"
  PRIVATE cpp-httplib)

foreach(tool IN ITEMS batched-bench completion llama-bench perplexity quantize tokenize)
  add_subdirectory("${TERNION_LLAMA_DIR}/tools/${tool}" "${CMAKE_BINARY_DIR}/llama/tools/${tool}" EXCLUDE_FROM_ALL SYSTEM)
endforeach()

add_executable(test-tokenizer-0 EXCLUDE_FROM_ALL "${TERNION_LLAMA_DIR}/tests/test-tokenizer-0.cpp")
target_link_libraries(test-tokenizer-0 PRIVATE llama-common)

add_executable(test-quantize-fns EXCLUDE_FROM_ALL "${TERNION_LLAMA_DIR}/tests/test-quantize-fns.cpp")
target_link_libraries(test-quantize-fns PRIVATE ggml)

# test-backend-ops runs on whatever is registered, so it gets a registry that starts Vulkan as upstream's does.
add_executable(test-backend-ops EXCLUDE_FROM_ALL "${TERNION_LLAMA_DIR}/tests/test-backend-ops.cpp")
target_link_libraries(test-backend-ops PRIVATE llama-common)
if(TERNION_VULKAN_ENABLED)
  target_sources(test-backend-ops PRIVATE "${TERNION_LLAMA_DIR}/ggml/src/ggml-backend-reg.cpp")
  target_include_directories(test-backend-ops PRIVATE "${TERNION_LLAMA_DIR}/ggml/src")
  target_compile_definitions(test-backend-ops PRIVATE GGML_USE_VULKAN GGML_USE_CPU)
  target_link_libraries(test-backend-ops PRIVATE ggml-vulkan)
endif()

add_custom_target(upstream-tools ALL DEPENDS
  llama-batched-bench llama-completion llama-bench llama-perplexity llama-quantize llama-tokenize
  test-tokenizer-0 test-quantize-fns test-backend-ops)

# The part of llama.cpp's `common` that chat templates, grammars and sampling need. Left out is what reaches for the
# network, the terminal or a command line: arg, console, debug, download, hf-cache, http, preset; and log, a thread that
# writes to stderr, in whose place the engine has its own.

set(common_dir "${TERNION_LLAMA_DIR}/common")

include("${common_dir}/parsers/sources.cmake")
file(GLOB common_sources CONFIGURE_DEPENDS
  "${common_dir}/chat*.cpp"
  "${common_dir}/jinja/*.cpp"
  "${common_dir}/json*.cpp"
  "${common_dir}/ngram-*.cpp")
foreach(name IN ITEMS common fit peg-parser reasoning-budget sampling speculative trie unicode)
  list(APPEND common_sources "${common_dir}/${name}.cpp")
endforeach()

set(BUILD_COMPILER "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}")
set(BUILD_TARGET "${CMAKE_SYSTEM_NAME} ${CMAKE_SYSTEM_PROCESSOR}")
configure_file("${common_dir}/build-info.cpp.in" "${CMAKE_BINARY_DIR}/build-info.cpp" @ONLY)

add_library(ternion_common STATIC
  ${common_sources} ${LLAMA_CHAT_PARSERS_SOURCES} "${CMAKE_BINARY_DIR}/build-info.cpp")
target_include_directories(ternion_common SYSTEM PUBLIC "${common_dir}")
target_compile_features(ternion_common PUBLIC cxx_std_17)
target_compile_options(ternion_common PRIVATE $<$<NOT:$<CXX_COMPILER_ID:MSVC>>:-w>)
target_link_libraries(ternion_common PUBLIC llama vendor::nlohmann Threads::Threads)

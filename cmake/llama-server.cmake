# llama.cpp's HTTP server, for benchmarks only: nothing but `--target llama-server` builds it.

if(NOT TERNION_UPSTREAM_TOOLS)
  return()
endif()

# Upstream's page for browsers is built by npm or downloaded. These are its two templates without any files in them.
set(ui_dir "${CMAKE_BINARY_DIR}/llama/tools/ui")
set(N_ASSETS 0)
set(USE_GZIP false)
foreach(file IN ITEMS ui.h ui.cpp)
  configure_file("${TERNION_LLAMA_DIR}/tools/ui/${file}.in" "${ui_dir}/${file}" @ONLY)
endforeach()
add_library(llama-ui STATIC EXCLUDE_FROM_ALL "${ui_dir}/ui.cpp")
target_include_directories(llama-ui PUBLIC "${ui_dir}")
target_compile_features(llama-ui PRIVATE cxx_std_17)
add_custom_target(llama-ui-assets) # upstream's server waits for it

# The server links the library for images and sound, whether or not a model has such a part.
set(MTMD_VIDEO OFF)
foreach(name IN ITEMS LLAMA_VERSION_BASE LLAMA_VERSION_MAJOR)
  get_directory_property(${name} DIRECTORY "${TERNION_LLAMA_DIR}" DEFINITION ${name})
endforeach()
foreach(folder IN ITEMS mtmd server)
  add_subdirectory("${TERNION_LLAMA_DIR}/tools/${folder}" "${CMAKE_BINARY_DIR}/llama/tools/${folder}" EXCLUDE_FROM_ALL SYSTEM)
endforeach()

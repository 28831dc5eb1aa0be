# Vulkan's entry points, resolved when a GPU is asked for instead of by the dynamic linker, and the registration that
# follows. Without Vulkan the same two calls say so.

add_library(ternion_vulkan STATIC
  "${CMAKE_CURRENT_SOURCE_DIR}/native/vulkan/facts.cc"
  "${CMAKE_CURRENT_SOURCE_DIR}/native/vulkan/limit.cc"
  "${CMAKE_CURRENT_SOURCE_DIR}/native/vulkan/loader.cc"
  "${CMAKE_CURRENT_SOURCE_DIR}/native/vulkan/open.cc")
target_include_directories(ternion_vulkan PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/native")
target_link_libraries(ternion_vulkan PUBLIC ggml PRIVATE ternion_own ${CMAKE_DL_LIBS})
if(TERNION_VULKAN_ENABLED)
  target_compile_definitions(ternion_vulkan PRIVATE TERNION_WITH_VULKAN)
  target_link_libraries(ternion_vulkan PRIVATE ternion_vulkan_headers ggml-vulkan)
  # ggml-vulkan calls back into the shim, so the linker has to see both together.
  target_link_libraries(ggml-vulkan INTERFACE ternion_vulkan)
endif()

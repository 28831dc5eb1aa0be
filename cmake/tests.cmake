# Each native/test/*_test.cc is one program and one ctest test. Those of the kernels do without the engine, so that they can be
# built for a processor that is emulated.

if(NOT TERNION_TESTS)
  return()
endif()

enable_testing()
set(kernel_tests experts_test float32_reference_test kernels_test random_weights_test shared_activations_test stq1_0_test)
add_library(ternion_random_weights STATIC EXCLUDE_FROM_ALL
  "${CMAKE_CURRENT_SOURCE_DIR}/native/engine/block_layout.cc" "${CMAKE_CURRENT_SOURCE_DIR}/native/engine/random_weights.cc")
target_include_directories(ternion_random_weights PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/native")
target_link_libraries(ternion_random_weights PUBLIC ternion_kernels PRIVATE ternion_own)

file(GLOB test_sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/native/test/*_test.cc")
foreach(source IN LISTS test_sources)
  get_filename_component(name "${source}" NAME_WE)
  if(name IN_LIST kernel_tests)
    set(tested ternion_random_weights)
  elseif(TERNION_KERNELS_ONLY)
    continue()
  else()
    set(tested ternion_engine)
  endif()
  add_executable(${name} "${source}")
  target_link_libraries(${name} PRIVATE ${tested} ternion_own)
  if(TERNION_EMULATED)
    continue()
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endforeach()

# An emulated processor with and one without the instructions of the kernels; the words after its name are the sets of kernels
# that it has to have.
foreach(processor IN LISTS TERNION_EMULATED)
  separate_arguments(sets UNIX_COMMAND "${processor}")
  list(POP_FRONT sets cpu)
  foreach(name IN LISTS kernel_tests)
    set(arguments "")
    if(name STREQUAL "kernels_test")
      set(arguments ${sets})
    endif()
    add_test(NAME ${name}@${cpu} COMMAND ${name} ${arguments} WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}")
    set_tests_properties(${name}@${cpu} PROPERTIES TIMEOUT 600 ENVIRONMENT QEMU_CPU=${cpu})
  endforeach()
endforeach()

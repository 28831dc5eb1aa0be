# cmake -DFROM=… -DTO=… -P place.cmake: copies a file that running processes may have mapped, by rename.

if(EXISTS "${TO}")
  file(SHA256 "${FROM}" from_hash)
  file(SHA256 "${TO}" to_hash)
  if(from_hash STREQUAL to_hash)
    return()
  endif()
endif()
get_filename_component(folder "${TO}" DIRECTORY)
file(MAKE_DIRECTORY "${folder}")
file(COPY_FILE "${FROM}" "${TO}.new")
file(RENAME "${TO}.new" "${TO}")

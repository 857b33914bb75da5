# Whether kernels have threads: links OpenMP to subgrad_cpu, and sets OPENMP_SUMMARY.
#
# SUBGRAD_OPENMP   AUTO: threads where the compiler has OpenMP, loudly one thread where it has none;
#                  ON: an error where it has none; OFF: one thread
if(NOT SUBGRAD_OPENMP MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "SUBGRAD_OPENMP is '${SUBGRAD_OPENMP}': expected AUTO, ON or OFF")
endif()

set(OPENMP_SUMMARY "none, ONE thread (SUBGRAD_OPENMP=OFF)")
if(NOT SUBGRAD_OPENMP STREQUAL "OFF")
  find_package(OpenMP COMPONENTS CXX)
  if(OpenMP_CXX_FOUND)
    list(JOIN OpenMP_CXX_LIB_NAMES " " OPENMP_RUNTIME)
    set(OPENMP_SUMMARY "OpenMP ${OpenMP_CXX_VERSION} (${OPENMP_RUNTIME})")
  else()
    set(OPENMP_SUMMARY "none, ONE thread: ${CMAKE_CXX_COMPILER_ID} finds no OpenMP")
    set(hint "install it (GCC has it; for Clang: apt install libomp-dev, brew install libomp)")
    if(SUBGRAD_OPENMP STREQUAL "ON")
      message(FATAL_ERROR "SUBGRAD_OPENMP=ON, but ${CMAKE_CXX_COMPILER} finds no OpenMP: ${hint}")
    endif()
    message(WARNING "subgrad_fast: ${CMAKE_CXX_COMPILER} finds no OpenMP, so everything will run on ONE THREAD. "
                    "For threads ${hint}; SUBGRAD_OPENMP=OFF says that one is meant.")
  endif()
endif()

if(OpenMP_CXX_FOUND AND SUBGRAD_SANITIZE MATCHES "thread")
  # Compiled for OpenMP, and not linked to it: what stands in for it is instrumented.
  target_sources(subgrad_cpu PRIVATE tests/tsan/openmp.cpp)
  target_compile_options(subgrad_cpu PUBLIC ${OpenMP_CXX_FLAGS})
elseif(OpenMP_CXX_FOUND)
  # torch's wheels for Linux bring libgomp, and the loader takes one library of that name for both. A
  # runtime of another name would have threads and a setting of its own beside torch's.
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT OPENMP_RUNTIME MATCHES "gomp" AND NOT SUBGRAD_OPENMP STREQUAL "ON")
    message(FATAL_ERROR
      "SUBGRAD_OPENMP: ${CMAKE_CXX_COMPILER} has the OpenMP runtime '${OPENMP_RUNTIME}', and torch has gomp: "
      "torch.set_num_threads would not count here. Compile with GCC (CXX=g++); or say SUBGRAD_OPENMP=ON for "
      "threads that only OMP_NUM_THREADS and subgrad_fast.set_num_threads decide on, or OFF for one thread.")
  endif()
  target_link_libraries(subgrad_cpu PUBLIC OpenMP::OpenMP_CXX)
elseif(NOT MSVC)
  # Nobody reads how many threads are meant.
  target_compile_options(subgrad_cpu PUBLIC -Wno-unused-parameter -Wno-unknown-pragmas)
endif()

# The interpreter of extern/ptxemu, which runs the kernels of _cuda_emulated where there is no GPU. It
# stands in for the CUDA runtime. Its library and the version of its symbols have names of their own:
# a torch with CUDA brings the runtime itself along, and neither must be taken for the other.
file(GLOB sources CONFIGURE_DEPENDS extern/ptxemu/src/*.cpp)
add_library(ptxemu SHARED ${sources})
target_include_directories(ptxemu PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
# Directed rounding changes the mode at run time, and a multiply and an add must stay two steps.
target_compile_options(ptxemu PRIVATE -O2 -frounding-math -ffp-contract=off)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(ptxemu PRIVATE -mfma)
endif()
set(symbols ${PROJECT_SOURCE_DIR}/cmake/ptxemu.map)
target_link_options(ptxemu PRIVATE "LINKER:--version-script=${symbols}")
set_target_properties(ptxemu PROPERTIES CXX_VISIBILITY_PRESET default LINK_DEPENDS ${symbols})

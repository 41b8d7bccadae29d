# Targets of the pinned llama.cpp build: llama_headers, llama_ggml (GGUF, quantisation), llama_server (everything).
# build.py fetches, checks, edits and builds it once into a cache outside the tree, and prints where it lies.
if(NOT AURORA_LLAMA_DIR)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/third_party/llama.cpp/build.py
    OUTPUT_VARIABLE AURORA_LLAMA_DIR OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
endif()
set(LLAMA_SRC ${AURORA_LLAMA_DIR}/src)
set(LLAMA_BUILD ${AURORA_LLAMA_DIR}/build)
message(STATUS "llama.cpp: ${AURORA_LLAMA_DIR}")

find_package(OpenMP REQUIRED)

add_library(llama_headers INTERFACE)
target_include_directories(llama_headers SYSTEM INTERFACE
  ${LLAMA_SRC}/include ${LLAMA_SRC}/ggml/include ${LLAMA_SRC}/ggml/src ${LLAMA_SRC}/common ${LLAMA_SRC}/vendor ${LLAMA_SRC}/src)

add_library(llama_ggml INTERFACE)
target_link_libraries(llama_ggml INTERFACE llama_headers
  ${LLAMA_BUILD}/ggml/src/libggml.a ${LLAMA_BUILD}/ggml/src/libggml-cpu.a ${LLAMA_BUILD}/ggml/src/libggml-base.a
  OpenMP::OpenMP_CXX Threads::Threads ${CMAKE_DL_LIBS} m)

# The model library without the server: for tools and tests that run a model in process.
add_library(llama_model INTERFACE)
target_link_libraries(llama_model INTERFACE
  ${LLAMA_BUILD}/common/libllama-common.a ${LLAMA_BUILD}/common/libllama-common-base.a
  ${LLAMA_BUILD}/vendor/cpp-httplib/libcpp-httplib.a ${LLAMA_BUILD}/vendor/hash/libvendor-hash.a
  ${LLAMA_BUILD}/src/libllama.a llama_ggml)

add_library(llama_server INTERFACE)
target_link_libraries(llama_server INTERFACE
  ${LLAMA_BUILD}/tools/server/libllama-server-impl.a ${LLAMA_BUILD}/tools/server/libserver-context.a
  ${LLAMA_BUILD}/tools/ui/libllama-ui.a ${LLAMA_BUILD}/tools/mtmd/libmtmd.a llama_model)
set(LLAMA_SERVER_BINARY ${LLAMA_BUILD}/bin/llama-server)

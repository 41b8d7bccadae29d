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
find_package(OpenSSL REQUIRED)

add_library(llama_headers INTERFACE)
target_include_directories(llama_headers SYSTEM INTERFACE
  ${LLAMA_SRC}/include ${LLAMA_SRC}/ggml/include ${LLAMA_SRC}/ggml/src ${LLAMA_SRC}/common ${LLAMA_SRC}/vendor ${LLAMA_SRC}/src)

# llama_library(NAME FILE DEPENDENCY...): one static library of that build. Dependencies stand behind it on the link line,
# whatever order our own targets name them in.
function(llama_library name file)
  add_library(${name} STATIC IMPORTED GLOBAL)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${LLAMA_BUILD}/${file})
  target_link_libraries(${name} INTERFACE ${ARGN})
endfunction()

llama_library(llama_lib_ggml_base ggml/src/libggml-base.a OpenMP::OpenMP_CXX Threads::Threads ${CMAKE_DL_LIBS} m)
llama_library(llama_lib_ggml_cpu ggml/src/libggml-cpu.a llama_lib_ggml_base OpenMP::OpenMP_CXX)
llama_library(llama_lib_ggml ggml/src/libggml.a llama_lib_ggml_cpu)
llama_library(llama_lib_llama src/libllama.a llama_lib_ggml)
llama_library(llama_lib_httplib vendor/cpp-httplib/libcpp-httplib.a OpenSSL::SSL OpenSSL::Crypto Threads::Threads)
# Its classes have other members with it: whoever includes httplib.h must be built as the library was.
target_compile_definitions(llama_lib_httplib INTERFACE CPPHTTPLIB_OPENSSL_SUPPORT)
llama_library(llama_lib_hash vendor/hash/libvendor-hash.a)
llama_library(llama_lib_common_base common/libllama-common-base.a)
llama_library(llama_lib_common common/libllama-common.a
  llama_lib_common_base llama_lib_httplib llama_lib_hash llama_lib_llama)
llama_library(llama_lib_mtmd tools/mtmd/libmtmd.a llama_lib_hash llama_lib_llama)
llama_library(llama_lib_ui tools/ui/libllama-ui.a)
llama_library(llama_lib_server_context tools/server/libserver-context.a llama_lib_mtmd llama_lib_ui llama_lib_common)
llama_library(llama_lib_server tools/server/libllama-server-impl.a llama_lib_server_context)

add_library(llama_ggml INTERFACE)
target_link_libraries(llama_ggml INTERFACE llama_headers llama_lib_ggml)

# The model library without the server: for tools and tests that run a model in process.
add_library(llama_model INTERFACE)
target_link_libraries(llama_model INTERFACE llama_headers llama_lib_common)

add_library(llama_server INTERFACE)
target_link_libraries(llama_server INTERFACE llama_headers llama_lib_server)
set(LLAMA_SERVER_BINARY ${LLAMA_BUILD}/bin/llama-server)

# aurora_replay: the client behind `aurora replay` and `aurora rollouts`, and the reports. Needs llama.cpp's HTTP library and its json header, nothing else of it.
add_library(aurora_replay STATIC
  ${CMAKE_CURRENT_LIST_DIR}/chat_stream.cc
  ${CMAKE_CURRENT_LIST_DIR}/child_process.cc
  ${CMAKE_CURRENT_LIST_DIR}/http_client.cc
  ${CMAKE_CURRENT_LIST_DIR}/learn_curves.cc
  ${CMAKE_CURRENT_LIST_DIR}/learn_variants.cc
  ${CMAKE_CURRENT_LIST_DIR}/page.cc
  ${CMAKE_CURRENT_LIST_DIR}/page_frame.cc
  ${CMAKE_CURRENT_LIST_DIR}/plot.cc
  ${CMAKE_CURRENT_LIST_DIR}/replay.cc
  ${CMAKE_CURRENT_LIST_DIR}/replay_options.cc
  ${CMAKE_CURRENT_LIST_DIR}/report.cc
  ${CMAKE_CURRENT_LIST_DIR}/rollout_options.cc
  ${CMAKE_CURRENT_LIST_DIR}/rollout_queue.cc
  ${CMAKE_CURRENT_LIST_DIR}/status_table.cc
  ${CMAKE_CURRENT_LIST_DIR}/traffic.cc)
target_link_libraries(aurora_replay PUBLIC aurora_flags aurora_base aurora_metrics llama_headers llama_lib_httplib)

#include "cli/server_flags.h"

namespace aurora {

const std::vector<ServerFlags>& server_flags() {
  using enum FlagUse;
  static const std::vector<ServerFlags> list = {
      // What the flywheel cannot serve yet: refused before the model is loaded, never half working.
      {kRefused, "-md --model-draft --spec-draft-model -hfd -hfrd --hf-repo-draft --spec-draft-hf",
       "LLAMA_ARG_SPEC_DRAFT_MODEL LLAMA_ARG_SPEC_DRAFT_HF_REPO",
       "the draft is trained here; start from your own with --init FILE"},
      {kRefused, "--spec-draft-n-max --draft --draft-n --draft-max",
       "LLAMA_ARG_SPEC_DRAFT_N_MAX LLAMA_ARG_DRAFT_MAX", "give --draft-depth N"},
      {kRefused, "--spec-draft-p-min", "LLAMA_ARG_SPEC_DRAFT_P_MIN", "give --draft-p-min P"},
      {kRefused,
       "--spec-* --no-spec-* --eagle3 --mtp --draft-min --draft-n-min --draft-p-split -td "
       "--threads-draft -tbd --threads-batch-draft -Cd --cpu-mask-draft -Crd --cpu-range-draft "
       "--cpu-strict-draft --prio-draft --poll-draft -Cbd --cpu-mask-batch-draft "
       "--cpu-strict-batch-draft --prio-batch-draft --poll-batch-draft -ctkd --cache-type-k-draft "
       "-ctvd --cache-type-v-draft -devd --device-draft -ngld --gpu-layers-draft "
       "--n-gpu-layers-draft -otd --override-tensor-draft -cmoed --cpu-moe-draft -ncmoed "
       "--n-cpu-moe-draft -lcs --lookup-cache-static -lcd --lookup-cache-dynamic",
       "LLAMA_ARG_SPEC_* LLAMA_ARG_DRAFT_* LLAMA_ARG_N_GPU_LAYERS_DRAFT",
       "aurora serve has one speculator; leave it out"},
      {kRefused, "--lora --lora-scaled", "",
       "a draft follows one target; merge the adapter into the model file first"},
      {kRefused, "--control-vector --control-vector-scaled", "",
       "a draft follows one target, and this makes another of it; serve it with llama-server"},
      {kRefused, "--context-shift", "LLAMA_ARG_CONTEXT_SHIFT",
       "shifted cells have no taps to learn from; raise -c"},
      {kRefused, "--cache-reuse", "LLAMA_ARG_CACHE_REUSE",
       "shifted cells have no taps to learn from; the plain prompt cache stays on"},
      {kRefused, "-bs --backend-sampling", "LLAMA_ARG_BACKEND_SAMPLING",
       "the law of each position is read from its logits; leave it out"},
      {kRefused,
       "-hf -hfr --hf-repo -hff --hf-file -mu --model-url -dr --docker-repo --embd-gemma-default "
       "--fim-qwen-* --gpt-oss-* --vision-gemma-*",
       "LLAMA_ARG_HF_REPO LLAMA_ARG_HF_FILE LLAMA_ARG_MODEL_URL LLAMA_ARG_DOCKER_REPO",
       "download the model first and give -m FILE"},
      {kRefused, "--models-dir --models-preset", "LLAMA_ARG_MODELS_DIR LLAMA_ARG_MODELS_PRESET",
       "aurora serves one target a process; give -m FILE"},

      {kIdle, "--models-max --models-autoload --no-models-autoload",
       "LLAMA_ARG_MODELS_MAX LLAMA_ARG_MODELS_AUTOLOAD", "a process serves one model"},
      {kIdle,
       "--ui --webui --no-ui --no-webui --ui-config --webui-config --ui-config-file "
       "--webui-config-file",
       "LLAMA_ARG_UI LLAMA_ARG_UI_CONFIG LLAMA_ARG_UI_CONFIG_FILE",
       "no web interface is built in; / shows a page of links"},
      {kIdle, "--control-vector-layer-range --lora-init-without-apply", "",
       "there is no control vector and no adapter"},
      {kIdle, "-hft --hf-token", "HF_TOKEN", "no model is downloaded"},
      {kIdle, "-dt --defrag-thold", "LLAMA_ARG_DEFRAG_THOLD", "llama.cpp has given it up"},
      {kIdle, "--metrics", "LLAMA_ARG_ENDPOINT_METRICS", "/metrics is always on"},
      {kIdle, "--no-context-shift", "", "cells are never shifted"},

      {kWorks, "--draft-p-min", "", "of the draft that is trained here: a flag of ours"},
      {kPrints, "-h --help --usage --version -cl --cache-list --completion-bash --list-devices", "",
       "prints what it says and exits"},

      {kWorks,
       "-m --model -a --alias --tags --override-kv --check-tensors -lm --load-mode -lzm "
       "--lazy-mode --offline --warmup --no-warmup",
       "LLAMA_ARG_MODEL LLAMA_ARG_ALIAS LLAMA_ARG_TAGS LLAMA_ARG_LOAD_MODE LLAMA_ARG_LAZY_MODE "
       "LLAMA_ARG_OFFLINE",
       "the model and how it is loaded"},
      {kWorks,
       "-t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll "
       "-Cb --cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch "
       "--numa --perf --no-perf",
       "LLAMA_ARG_THREADS LLAMA_ARG_NUMA LLAMA_ARG_PERF", "cores"},
      {kWorks,
       "-c --ctx-size -b --batch-size -ub --ubatch-size --keep --swa-full -fa --flash-attn -ctk "
       "--cache-type-k -ctv --cache-type-v -np --parallel -cb --cont-batching -nocb "
       "--no-cont-batching -kvu --kv-unified -no-kvu --no-kv-unified --kv-unified-per-slot -ctxcp "
       "--ctx-checkpoints --swa-checkpoints -cms --checkpoint-min-step -cram --cache-ram "
       "--cache-prompt --no-cache-prompt --cache-idle-slots --no-cache-idle-slots -sps "
       "--slot-prompt-similarity",
       "LLAMA_ARG_CTX_SIZE LLAMA_ARG_BATCH LLAMA_ARG_UBATCH LLAMA_ARG_SWA_FULL "
       "LLAMA_ARG_FLASH_ATTN LLAMA_ARG_CACHE_TYPE_K LLAMA_ARG_CACHE_TYPE_V LLAMA_ARG_N_PARALLEL "
       "LLAMA_ARG_CONT_BATCHING LLAMA_ARG_KV_UNIFIED LLAMA_ARG_KV_UNIFIED_PER_SLOT "
       "LLAMA_ARG_CTX_CHECKPOINTS LLAMA_ARG_CHECKPOINT_MIN_SPACING_NT LLAMA_ARG_CACHE_RAM "
       "LLAMA_ARG_CACHE_PROMPT LLAMA_ARG_CACHE_IDLE_SLOTS",
       "context, batches, slots and the prompt cache"},
      {kWorks,
       "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx "
       "--yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast",
       "LLAMA_ARG_ROPE_SCALING_TYPE LLAMA_ARG_ROPE_SCALE LLAMA_ARG_ROPE_FREQ_BASE "
       "LLAMA_ARG_ROPE_FREQ_SCALE LLAMA_ARG_YARN_ORIG_CTX LLAMA_ARG_YARN_EXT_FACTOR "
       "LLAMA_ARG_YARN_ATTN_FACTOR LLAMA_ARG_YARN_BETA_SLOW LLAMA_ARG_YARN_BETA_FAST",
       "the target's positions"},
      {kWorks,
       "--repack -nr --no-repack --no-host -kvo --kv-offload -nkvo --no-kv-offload --rpc -dev "
       "--device -ot --override-tensor -cmoe --cpu-moe -ncmoe --n-cpu-moe -ncffn --n-cpu-ffn -ngl "
       "--gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu -fit --fit "
       "-fitt --fit-target -fitc --fit-ctx --op-offload --no-op-offload",
       "LLAMA_ARG_REPACK LLAMA_ARG_NO_HOST LLAMA_ARG_KV_OFFLOAD LLAMA_ARG_RPC LLAMA_ARG_DEVICE "
       "LLAMA_ARG_OVERRIDE_TENSOR LLAMA_ARG_CPU_MOE LLAMA_ARG_N_CPU_MOE LLAMA_ARG_N_CPU_FFN "
       "LLAMA_ARG_N_GPU_LAYERS LLAMA_ARG_SPLIT_MODE LLAMA_ARG_TENSOR_SPLIT LLAMA_ARG_MAIN_GPU "
       "LLAMA_ARG_FIT LLAMA_ARG_FIT_TARGET LLAMA_ARG_FIT_CTX",
       "where weights and cache lie"},
      {kWorks,
       "--log-disable --log-file --log-jsonl --no-log-jsonl --log-colors -v --verbose "
       "--log-verbose -lv --verbosity --log-verbosity --log-prefix --no-log-prefix "
       "--log-timestamps --no-log-timestamps --log-prompts-dir",
       "LLAMA_ARG_LOG_*", "llama-server's log"},
      {kWorks,
       "--samplers -s --seed --sampler-seq --sampling-seq --ignore-eos --temp --temperature "
       "--top-k --top-p --min-p --top-nsigma --top-n-sigma --xtc-probability --xtc-threshold "
       "--typical --typical-p --repeat-last-n --repeat-penalty --presence-penalty "
       "--frequency-penalty --dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n "
       "--dry-sequence-breaker --adaptive-target --adaptive-decay --dynatemp-range --dynatemp-exp "
       "--mirostat --mirostat-lr --mirostat-ent -l --logit-bias --grammar --grammar-file -j "
       "--json-schema -jf --json-schema-file -n --predict --n-predict -r --reverse-prompt -sp "
       "--special -e --escape --no-escape",
       "LLAMA_ARG_TEMPERATURE LLAMA_ARG_TOP_K LLAMA_ARG_TOP_P LLAMA_ARG_MIN_P "
       "LLAMA_ARG_REPEAT_PENALTY "
       "LLAMA_ARG_PRESENCE_PENALTY LLAMA_ARG_FREQUENCY_PENALTY LLAMA_ARG_N_PREDICT",
       "what a request gets that does not say otherwise"},
      {kWorks,
       "--jinja --no-jinja --reasoning-format -rea --reasoning --reasoning-effort "
       "--reasoning-budget --reasoning-budget-message --reasoning-preserve "
       "--no-reasoning-preserve --chat-template --chat-template-file --chat-template-kwargs "
       "--skip-chat-parsing --no-skip-chat-parsing --prefill-assistant --no-prefill-assistant "
       "--spm-infill",
       "LLAMA_ARG_JINJA LLAMA_ARG_THINK LLAMA_ARG_REASONING LLAMA_ARG_REASONING_EFFORT "
       "LLAMA_ARG_THINK_BUDGET LLAMA_ARG_THINK_BUDGET_MESSAGE LLAMA_ARG_REASONING_PRESERVE "
       "LLAMA_ARG_CHAT_TEMPLATE LLAMA_ARG_CHAT_TEMPLATE_FILE LLAMA_ARG_CHAT_TEMPLATE_KWARGS "
       "LLAMA_ARG_SKIP_CHAT_PARSING LLAMA_ARG_PREFILL_ASSISTANT",
       "chat templates, thoughts, text with a gap"},
      {kWorks,
       "-mm --mmproj -mmu --mmproj-url --mmproj-auto --no-mmproj --no-mmproj-auto "
       "--mmproj-offload --no-mmproj-offload -mmdev --mmproj-device --image-min-tokens "
       "--image-max-tokens --mtmd-batch-max-tokens --video-fps --video-timestamp-interval "
       "--video-ffmpeg-dir --media-path",
       "LLAMA_ARG_MMPROJ LLAMA_ARG_MMPROJ_* MTMD_BACKEND_DEVICE LLAMA_ARG_IMAGE_* "
       "LLAMA_ARG_MTMD_BATCH_MAX_TOKENS LLAMA_ARG_VIDEO_*",
       "pictures and video: requests that hold one go without draft and trace"},
      {kWorks, "--embedding --embeddings --rerank --reranking --pooling --embd-normalize",
       "LLAMA_ARG_EMBEDDINGS LLAMA_ARG_RERANKING LLAMA_ARG_POOLING",
       "embeddings and reranking, without drafts"},
      {kWorks,
       "--host --port --reuse-port --path --cors-origins --cors-methods --cors-headers "
       "--cors-credentials --no-cors-credentials --api-prefix --api-key --api-key-file "
       "--ssl-key-file --ssl-cert-file -to --timeout --sse-ping-interval --threads-http --props "
       "--slots --no-slots --slot-save-path --sleep-idle-seconds",
       "LLAMA_ARG_HOST LLAMA_ARG_PORT LLAMA_ARG_REUSE_PORT LLAMA_ARG_STATIC_PATH LLAMA_ARG_CORS_* "
       "LLAMA_ARG_API_PREFIX LLAMA_API_KEY LLAMA_ARG_API_KEY_FILE LLAMA_ARG_SSL_KEY_FILE "
       "LLAMA_ARG_SSL_CERT_FILE LLAMA_ARG_TIMEOUT LLAMA_ARG_SSE_PING_INTERVAL "
       "LLAMA_ARG_THREADS_HTTP LLAMA_ARG_ENDPOINT_PROPS LLAMA_ARG_ENDPOINT_SLOTS",
       "HTTP"},
      {kWorks,
       "--tools --tools-runtime --mcp-servers-config --mcp-servers-json -ag --agent -no-ag "
       "--no-agent --ui-mcp-proxy --webui-mcp-proxy --no-ui-mcp-proxy --no-webui-mcp-proxy",
       "LLAMA_ARG_TOOLS LLAMA_ARG_TOOLS_RUNTIME LLAMA_ARG_MCP_SERVERS_CONFIG "
       "LLAMA_ARG_MCP_SERVERS_JSON LLAMA_ARG_AGENT LLAMA_ARG_UI_MCP_PROXY",
       "built-in tools"},
  };
  return list;
}

}  // namespace aurora

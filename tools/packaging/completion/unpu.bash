# SPDX-License-Identifier: MIT
# Completion of unpu's command line; made by `make docs` from the tables of the command.
# shellcheck shell=bash

# Sets kind (none, any, file or words) and words of the value behind option $2
# of command $1.
_unpu_value()
{
	kind=none words=
	case "$1 $2" in
	'run -p' | 'run --prompt') kind=any ;;
	'run -f' | 'run --file') kind=file ;;
	'run --system') kind=any ;;
	'run --template') kind=words words='chatml llama2 llama3 zephyr gemma phi3 alpaca' ;;
	'run -n' | 'run --count') kind=any ;;
	'run --stop') kind=any ;;
	'run --temp') kind=any ;;
	'run --top-k') kind=any ;;
	'run --top-p') kind=any ;;
	'run --min-p') kind=any ;;
	'run --repeat-penalty') kind=any ;;
	'run --frequency-penalty') kind=any ;;
	'run --presence-penalty') kind=any ;;
	'run --repeat-last-n') kind=any ;;
	'run --bias') kind=any ;;
	'run --seed') kind=any ;;
	'run --load') kind=file ;;
	'run --save') kind=file ;;
	'run --prompt-cache') kind=file ;;
	'run -t' | 'run --threads') kind=any ;;
	'run -d' | 'run --device') kind=words words='auto cpu' ;;
	'run -c' | 'run --context') kind=any ;;
	'run --kv') kind=words words='f16 f32 int8' ;;
	'run --batch') kind=any ;;
	'run --speculate') kind=any ;;
	'run --packed') kind=file ;;
	'chat --system') kind=any ;;
	'chat --template') kind=words words='chatml llama2 llama3 zephyr gemma phi3 alpaca' ;;
	'chat --load') kind=file ;;
	'chat -n' | 'chat --count') kind=any ;;
	'chat --stop') kind=any ;;
	'chat --temp') kind=any ;;
	'chat --top-k') kind=any ;;
	'chat --top-p') kind=any ;;
	'chat --min-p') kind=any ;;
	'chat --repeat-penalty') kind=any ;;
	'chat --frequency-penalty') kind=any ;;
	'chat --presence-penalty') kind=any ;;
	'chat --repeat-last-n') kind=any ;;
	'chat --bias') kind=any ;;
	'chat --seed') kind=any ;;
	'chat -t' | 'chat --threads') kind=any ;;
	'chat -d' | 'chat --device') kind=words words='auto cpu' ;;
	'chat -c' | 'chat --context') kind=any ;;
	'chat --kv') kind=words words='f16 f32 int8' ;;
	'chat --batch') kind=any ;;
	'chat --speculate') kind=any ;;
	'chat --packed') kind=file ;;
	'eval --text') kind=file ;;
	'eval --window') kind=any ;;
	'eval --against') kind=file ;;
	'eval --tokens') kind=any ;;
	'eval --logits') kind=file ;;
	'eval --greedy') kind=any ;;
	'eval -t' | 'eval --threads') kind=any ;;
	'eval -d' | 'eval --device') kind=words words='auto cpu' ;;
	'eval -c' | 'eval --context') kind=any ;;
	'eval --kv') kind=words words='f16 f32 int8' ;;
	'eval --batch') kind=any ;;
	'eval --packed') kind=file ;;
	'tokenize -p' | 'tokenize --prompt') kind=any ;;
	'tokenize -f' | 'tokenize --file') kind=file ;;
	'bench -p' | 'bench --prompt-tokens') kind=any ;;
	'bench -n' | 'bench --count') kind=any ;;
	'bench -r' | 'bench --repeats') kind=any ;;
	'bench -t' | 'bench --threads') kind=any ;;
	'bench -d' | 'bench --device') kind=words words='auto cpu' ;;
	'bench -c' | 'bench --context') kind=any ;;
	'bench --kv') kind=words words='f16 f32 int8' ;;
	'bench --batch') kind=any ;;
	'bench --packed') kind=file ;;
	'pack -o' | 'pack --output') kind=file ;;
	'pack --for') kind=words words='c avx2 avx512vnni neon neon_dotprod' ;;
	'pack -t' | 'pack --threads') kind=any ;;
	esac
}

# COMPREPLY of what compgen finds for the options given.
_unpu_reply()
{
	mapfile -t COMPREPLY < <(compgen "$@")
}

_unpu_files()
{
	compopt -o filenames 2>/dev/null
	_unpu_reply "$@"
}

_unpu()
{
	local current=${COMP_WORDS[COMP_CWORD]} before= command=${COMP_WORDS[1]}
	local kind words options= model= i

	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		_unpu_reply -W 'run chat eval tokenize detokenize bench info pack devices --help --version' -- "$current"
		return
	fi
	# readline takes "=" for a word of its own.
	before=${COMP_WORDS[COMP_CWORD - 1]}
	if [ "$current" = = ]; then
		current=
	elif [ "$before" = = ]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	_unpu_value "$command" "$before"
	case $kind in
	any) return ;;
	file) _unpu_files -f -- "$current"; return ;;
	words) _unpu_reply -W "$words" -- "$current"; return ;;
	esac
	case $command in
	run) options='-p --prompt -f --file --chat --system --template -n --count --stop --temp --top-k --top-p --min-p --repeat-penalty --frequency-penalty --presence-penalty --repeat-last-n --bias --seed --load --save --prompt-cache -t --threads --clamp -d --device -c --context --kv --batch --speculate --packed --cache --no-sandbox --no-echo --json --stats -h --help' ;;
	chat) options='--system --template --load -n --count --stop --temp --top-k --top-p --min-p --repeat-penalty --frequency-penalty --presence-penalty --repeat-last-n --bias --seed -t --threads --clamp -d --device -c --context --kv --batch --speculate --packed --cache --no-sandbox --stats -h --help' ;;
	eval) options='--text --window --against --json --tokens --logits --greedy -t --threads --clamp -d --device -c --context --kv --class-f32 --batch --packed --cache --no-sandbox -h --help' ;;
	tokenize) options='-p --prompt -f --file --special --no-sandbox -h --help' ;;
	detokenize) options='--no-sandbox -h --help' ;;
	bench) options='-p --prompt-tokens -n --count -r --repeats -t --threads --clamp -d --device -c --context --kv --batch --packed --cache --no-sandbox --json -h --help' ;;
	info) options='--tensors --json --no-sandbox -h --help' ;;
	pack) options='-o --output --for -t --threads --clamp --no-sandbox -h --help' ;;
	devices) options='--json --retry -h --help' ;;
	esac
	if [[ $current == -* ]]; then
		_unpu_reply -W "$options" -- "$current"
		return
	fi
	case $command in
	devices) return ;;
	esac
	for ((i = 2; i < COMP_CWORD; i++)); do
		_unpu_value "$command" "${COMP_WORDS[i]}"
		if [ "$kind" != none ]; then
			[ "${COMP_WORDS[i + 1]}" = = ] && i=$((i + 1))
			i=$((i + 1))
		elif [[ ${COMP_WORDS[i]} != -* ]]; then
			model=${COMP_WORDS[i]}
		fi
	done
	[ -n "$model" ] && return
	_unpu_files -f -X '!*.gguf' -o plusdirs -- "$current"
}

complete -F _unpu unpu

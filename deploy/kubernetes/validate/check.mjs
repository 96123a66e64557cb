// Checks rendered manifests offline: node check.mjs FILE...
//
// Every custom resource is checked twice. schemas/ is ours: only the fields that this folder uses, taken from the
// operators' CRDs, and closed, so that a typo in an optional field is refused. Where @kubernetes-models has the kind, its
// schema (made from the CRD itself) checks types and required fields a second time; it lets unknown fields pass.
// Objects of Kubernetes itself are left to kubernetes-validate.
//
// Standard output: all objects as one JSON array. Exit code 1: something is wrong, and standard error says what.
import { readFileSync, readdirSync } from 'node:fs';
import Ajv from 'ajv';
import { parseAllDocuments } from 'yaml';

const MODELS = { 'monitoring.coreos.com': 'prometheus-operator' };
const CORE = ['apps', 'batch', 'policy', 'networking.k8s.io', 'rbac.authorization.k8s.io'];

const ajv = new Ajv({ allErrors: true, allowUnionTypes: true });
const ours = new Map();
for (const file of readdirSync(new URL('schemas/', import.meta.url))) {
  const { group, version, definitions, specs } = JSON.parse(readFileSync(new URL(`schemas/${file}`, import.meta.url)));
  for (const [kind, spec] of Object.entries(specs)) {
    ours.set(`${group}/${version} ${kind}`, ajv.compile({
      type: 'object',
      required: ['apiVersion', 'kind', 'metadata', 'spec'],
      additionalProperties: false,
      properties: { apiVersion: {}, kind: {}, metadata: { type: 'object', required: ['name'] }, spec },
      definitions,
    }));
  }
}

const wrong = [];

function documents(path) {
  return parseAllDocuments(readFileSync(path, 'utf8'), { uniqueKeys: true }).flatMap((document) => {
    wrong.push(...document.errors.map((error) => `${path}: ${error.message}`));
    return document.toJSON() ?? [];
  });
}

async function check(object) {
  const { apiVersion, kind, metadata } = object;
  const name = `${apiVersion} ${kind} ${metadata?.name}`;
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  if (group === '' || CORE.includes(group)) return;
  const strict = ours.get(`${apiVersion} ${kind}`);
  if (!strict) {
    wrong.push(`${name}: schemas/ knows no such kind`);
    return;
  }
  if (!strict(object)) {
    for (const { instancePath, message, params } of strict.errors) {
      wrong.push(`${name}: ${instancePath} ${message} ${JSON.stringify(params)}`);
    }
  }
  if (!MODELS[group]) return;
  const models = await import(`@kubernetes-models/${MODELS[group]}/${group}/${version}`);
  try {
    new models[kind](object).validate();
  } catch (error) {
    wrong.push(`${name}: ${error.message}`);
  }
}

const all = process.argv.slice(2).flatMap(documents);
if (all.length === 0) wrong.push('there is nothing to check');
for (const object of all) await check(object);
for (const line of wrong) console.error(line);
process.exitCode = wrong.length === 0 ? 0 : 1;
process.stdout.write(`${JSON.stringify(all)}\n`);
